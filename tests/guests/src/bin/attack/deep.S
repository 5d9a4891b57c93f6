// Ways to lose a vCPU for good. Each takes an address where nothing is in x0 and never returns.

    .section .text.deep, "ax"

// The vectors where nothing is: each exception is another abort.
    .global lose_vectors
lose_vectors:
    msr     vbar_el1, x0
    isb
    udf     #0

// The stack where nothing is, and vectors that push first: a fault inside the fault, for ever.
    .global lose_stack
lose_stack:
    adr     x1, pushing_vectors
    msr     vbar_el1, x1
    isb
    mov     sp, x0
    str     x0, [sp]

// The tables where nothing is: the next walk aborts, and so does the fetch of the vector.
    .global lose_tables
lose_tables:
    msr     ttbr0_el1, x0
    isb
    tlbi    vmalle1
    dsb     nsh
    isb
    b       .

// Translation off, then a jump to where nothing is, vectors at zero.
    .global lose_translation
lose_translation:
    msr     vbar_el1, xzr
    mrs     x1, sctlr_el1
    bic     x1, x1, #1
    msr     sctlr_el1, x1
    isb
    br      x0

    .balign 0x800
pushing_vectors:
    .rept   16
    stp     x0, x1, [sp, #-16]!
    .balign 0x80
    .endr
