// Into a guest and back, and EL2's vector table.
//
// enter(frame): saves what the procedure call standard makes the callee keep, loads the guest's registers and leaves
// EL2. The next exception from EL1 or EL0 finishes the call: it stores the guest's registers to the frame and returns
// which vector it came by. EL2 keeps nothing in a system register between the two: the frame's address waits on the
// stack.

.equ FRAME_PC, 31 * 8
.equ FRAME_PSTATE, 32 * 8

.section .text.enter, "ax"
.global hearth_enter
.type hearth_enter, %function
.balign 64
hearth_enter:
    stp x29, x30, [sp, #-112]!
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    str x0, [sp, #96]
    ldp x1, x2, [x0, #FRAME_PC]
    msr elr_el2, x1
    msr spsr_el2, x2
    ldp x2, x3, [x0, #2 * 8]
    ldp x4, x5, [x0, #4 * 8]
    ldp x6, x7, [x0, #6 * 8]
    ldp x8, x9, [x0, #8 * 8]
    ldp x10, x11, [x0, #10 * 8]
    ldp x12, x13, [x0, #12 * 8]
    ldp x14, x15, [x0, #14 * 8]
    ldp x16, x17, [x0, #16 * 8]
    ldp x18, x19, [x0, #18 * 8]
    ldp x20, x21, [x0, #20 * 8]
    ldp x22, x23, [x0, #22 * 8]
    ldp x24, x25, [x0, #24 * 8]
    ldp x26, x27, [x0, #26 * 8]
    ldp x28, x29, [x0, #28 * 8]
    ldr x30, [x0, #30 * 8]
    ldp x0, x1, [x0]
    eret
    // No speculation past the eret (straight-line speculation).
    dsb nsh
    isb

// The tail of every exception from a lower EL: x0 and x1 of the guest are on the stack, x1 holds the vector's number.
leave:
    ldr x0, [sp, #16 + 96]
    stp x2, x3, [x0, #2 * 8]
    stp x4, x5, [x0, #4 * 8]
    stp x6, x7, [x0, #6 * 8]
    stp x8, x9, [x0, #8 * 8]
    stp x10, x11, [x0, #10 * 8]
    stp x12, x13, [x0, #12 * 8]
    stp x14, x15, [x0, #14 * 8]
    stp x16, x17, [x0, #16 * 8]
    stp x18, x19, [x0, #18 * 8]
    stp x20, x21, [x0, #20 * 8]
    stp x22, x23, [x0, #22 * 8]
    stp x24, x25, [x0, #24 * 8]
    stp x26, x27, [x0, #26 * 8]
    stp x28, x29, [x0, #28 * 8]
    str x30, [x0, #30 * 8]
    ldp x2, x3, [sp], #16
    stp x2, x3, [x0]
    mrs x2, elr_el2
    mrs x3, spsr_el2
    stp x2, x3, [x0, #FRAME_PC]
    mov x0, x1
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp x29, x30, [sp], #112
    ret

.macro from_guest number
.balign 128
    stp x0, x1, [sp, #-16]!
    mov x1, #\number
    b leave
.endm

// An exception of EL2 itself is a bug of ours. The stack may be the cause, so the rest runs on SP_EL0 and an emergency
// stack, which hearth_fault (the kernel's) sets up; the guest's thread registers serve as scratch, for it will not run again.
.macro from_el2 number
.balign 128
    msr tpidr_el0, x0
    mov x0, #\number
    b hearth_fault
.endm

.section .text.vectors, "ax"
.global hearth_vectors
.balign 2048
hearth_vectors:
    // Current EL with SP_EL0: a fault while a fault is being told. Nothing is left to trust.
.rept 4
.balign 128
1:  wfi
    b 1b
.endr
    from_el2 0
    from_el2 1
    from_el2 2
    from_el2 3
    // Lower EL, AArch64.
    from_guest 0
    from_guest 1
    from_guest 2
    from_guest 3
    // Lower EL, AArch32: only EL0 can be that.
    from_guest 0
    from_guest 1
    from_guest 2
    from_guest 3
