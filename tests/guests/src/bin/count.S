// hold_registers: fills the registers with a pattern, waits for a word in memory to change, and tells which register did not keep its value.
//
// x0: seed, x1: address of the word, x2: its value now, x3: 0 to wait in WFI, 1 to spin with YIELD.
// Returns 0, or 1 + n for q[n], 101 + n for x[n], 201 for FPSR, 202 for FPCR. Interrupts are unmasked while it waits.

    .arch_extension fp
    .arch_extension simd

    .macro  expect register, value, code
    cmp     \register, \value
    b.eq    9f
    mov     x0, #\code
    b       99f
9:
    .endm

    .section .text.hold, "ax"
    .global hold_registers
hold_registers:
    stp     x29, x30, [sp, #-112]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    mov     x8, x0
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    add     x9, x8, #\n
    mvn     x10, x9
    fmov    d\n, x9
    mov     v\n\().d[1], x10
    .endr
    .irp    n, 5,6,7,11,12,13,14,15,16,17,19,20,21,22,23,24,25,26,27,28
    add     x\n, x8, #(64 + \n)
    .endr
    mov     x4, #0x00c00000         // FPCR: round towards zero
    msr     fpcr, x4
    mov     x4, #0x1f               // FPSR: all five cumulative flags
    msr     fpsr, x4

1:  cbnz    x3, 2f
    msr     daifset, #2
    ldr     x9, [x1]
    cmp     x9, x2
    b.ne    3f
    dsb     sy
    wfi
    msr     daifclr, #2
    b       1b
2:  yield
    ldr     x9, [x1]
    cmp     x9, x2
    b.eq    2b
3:  msr     daifclr, #2

    mrs     x9, fpsr
    and     x9, x9, #0x1f
    expect  x9, #0x1f, 201
    mrs     x9, fpcr
    mov     x10, #0x00c00000
    expect  x9, x10, 202
    .irp    n, 5,6,7,11,12,13,14,15,16,17,19,20,21,22,23,24,25,26,27,28
    add     x9, x8, #(64 + \n)
    expect  x\n, x9, (101 + \n)
    .endr
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    add     x9, x8, #\n
    mvn     x10, x9
    fmov    x4, d\n
    expect  x4, x9, (1 + \n)
    mov     x4, v\n\().d[1]
    expect  x4, x10, (1 + \n)
    .endr
    mov     x0, #0
99: msr     fpcr, xzr
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp], #112
    ret
