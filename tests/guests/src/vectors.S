// Exception vectors and the probe: run a few instructions, come back whatever they do.
//
// A synchronous exception inside a probe returns from `run_probe` with 1, like a longjmp, so that neither the stack pointer
// nor any register of the probed code needs to be sane. Outside a probe it ends the guest with a FAIL line.

    .macro  entry to
    .balign 0x80
    b       \to
    .endm

    .section .text.vectors, "ax"
    .balign 0x800
    .global vectors
vectors:
    entry   sync_entry              // this level, SP_EL0
    entry   irq_entry
    entry   odd_entry
    entry   serror_entry
    entry   sync_entry              // this level, SP_EL1
    entry   irq_entry
    entry   odd_entry
    entry   serror_entry
    entry   sync_entry              // EL0, AArch64
    entry   odd_entry
    entry   odd_entry
    entry   serror_entry
    entry   sync_entry              // EL0, AArch32
    entry   odd_entry
    entry   odd_entry
    entry   serror_entry

serror_entry:
    msr     tpidrro_el0, x0
    mrs     x0, tpidr_el1
    str     x1, [x0, #{scratch}]
    ldr     x1, [x0, #{serrors}]
    add     x1, x1, #1
    str     x1, [x0, #{serrors}]
    ldr     x1, [x0, #{scratch}]
    mrs     x0, tpidrro_el0
    eret

odd_entry:
    mov     x3, #1
    b       sync_common
sync_entry:
    mov     x3, xzr
sync_common:
    // A probe may have turned translation off; everything below needs it.
    mrs     x0, sctlr_el1
    orr     x0, x0, #1
    msr     sctlr_el1, x0
    isb
    msr     spsel, #1
    mrs     x0, esr_el1
    mrs     x1, far_el1
    mrs     x2, elr_el1
    mrs     x4, tpidr_el1
    ldr     x5, [x4, #{active}]
    cbz     x5, unexpected_exception
    stp     x0, x1, [x4, #{esr}]
    str     x2, [x4, #{elr}]
    mov     x0, #1
    b       leave_probe

irq_entry:
    sub     sp, sp, #192
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x29, [sp, #144]
    mrs     x0, elr_el1
    mrs     x1, spsr_el1
    stp     x30, x0, [sp, #160]
    str     x1, [sp, #176]
    adrp    x0, IRQ_HANDLER
    ldr     x0, [x0, :lo12:IRQ_HANDLER]
    blr     x0
    ldr     x1, [sp, #176]
    ldp     x30, x0, [sp, #160]
    msr     elr_el1, x0
    msr     spsr_el1, x1
    ldp     x18, x29, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp, #0]
    add     sp, sp, #192
    eret

// x0: code to call, x1: eight register values, taken to x0-x7 and brought back, x2: 1 to run it with translation off.
// Returns 0 when the code returned, 1 when it took a synchronous exception. Interrupts must be masked.
    .global run_probe
run_probe:
    mrs     x9, tpidr_el1
    stp     x19, x20, [x9, #{saved} + 0]
    stp     x21, x22, [x9, #{saved} + 16]
    stp     x23, x24, [x9, #{saved} + 32]
    stp     x25, x26, [x9, #{saved} + 48]
    stp     x27, x28, [x9, #{saved} + 64]
    stp     x29, x30, [x9, #{saved} + 80]
    mov     x10, sp
    stp     x10, x1, [x9, #{saved} + 96]
    mov     x10, #1
    str     x10, [x9, #{active}]
    mov     x16, x0
    mov     x17, x1
    mov     x18, x2
    ldp     x0, x1, [x17, #0]
    ldp     x2, x3, [x17, #16]
    ldp     x4, x5, [x17, #32]
    ldp     x6, x7, [x17, #48]
    cbz     x18, 1f
    mrs     x9, sctlr_el1
    bic     x9, x9, #1
    msr     sctlr_el1, x9
    isb
1:  blr     x16
    mrs     x18, sctlr_el1
    orr     x18, x18, #1
    msr     sctlr_el1, x18
    isb
    mrs     x18, tpidr_el1
    ldr     x17, [x18, #{saved} + 104]
    stp     x0, x1, [x17, #0]
    stp     x2, x3, [x17, #16]
    stp     x4, x5, [x17, #32]
    stp     x6, x7, [x17, #48]
    mov     x4, x18
    mov     x0, xzr
leave_probe:
    msr     daifset, #0xf
    msr     spsel, #1
    str     xzr, [x4, #{active}]
    ldp     x10, x1, [x4, #{saved} + 96]
    mov     sp, x10
    ldp     x19, x20, [x4, #{saved} + 0]
    ldp     x21, x22, [x4, #{saved} + 16]
    ldp     x23, x24, [x4, #{saved} + 32]
    ldp     x25, x26, [x4, #{saved} + 48]
    ldp     x27, x28, [x4, #{saved} + 64]
    ldp     x29, x30, [x4, #{saved} + 80]
    ret
