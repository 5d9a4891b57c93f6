// call_with_pattern: makes one call with a pattern in x4 to x17 and x19 to x28, and tells which of them changed.
//
// x0: function, x1 to x3: arguments, x4: 0 for HVC, 1 for SMC. Returns a bit for each register that did not keep its value.

    .section .text.pattern, "ax"
    .global call_with_pattern
call_with_pattern:
    stp     x29, x30, [sp, #-112]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    str     x4, [sp, #96]
    cmp     x4, #0
    .irp    n, 4,5,6,7,8,9,10,11,12,13,14,15,16,17,19,20,21,22,23,24,25,26,27,28
    mov     x\n, #(0x5a00 + \n)
    movk    x\n, #(0xc300 + \n), lsl #48
    .endr
    b.ne    1f
    hvc     #0
    b       2f
1:  smc     #0
2:  mov     x0, xzr
    .irp    n, 4,5,6,7,8,9,10,11,12,13,14,15,16,17,19,20,21,22,23,24,25,26,27,28
    mov     x1, #(0x5a00 + \n)
    movk    x1, #(0xc300 + \n), lsl #48
    cmp     x\n, x1
    b.eq    3f
    orr     x0, x0, #(1 << \n)
3:
    .endr
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp], #112
    ret
