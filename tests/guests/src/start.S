// Entry of a test guest: at EL1, translation and caches off, the device tree in x0.
//
// The header is the Linux arm64 Image header, so loaders that know it place the guest and pass the tree. Loaders that do not
// simply enter at the first byte. Position independent: only PC-relative addresses until the relocations are applied.

    .section .head, "ax"
    .global _head
_head:
    b       _start
    .long   0
    .quad   0x80000                 // text offset: the place that a flat binary without a header gets as well
    .quad   __image_size
    .quad   0xa                     // little endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

    .section .text.start, "ax"
_start:
    mov     x19, x0
    msr     daifset, #0xf
    bl      build_table
    bl      enable_translation

    // From here caches are on, so that what is written below is coherent with what the other vCPUs will read.
    adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
1:  stp     xzr, xzr, [x0], #16
    cmp     x0, x1
    b.lo    1b

    // Apply R_AARCH64_RELATIVE (type 1027), the only kind in a static position-independent image.
    adrp    x0, __rela_start
    add     x0, x0, :lo12:__rela_start
    adrp    x1, __rela_end
    add     x1, x1, :lo12:__rela_end
    adrp    x2, __image_start
    add     x2, x2, :lo12:__image_start
2:  cmp     x0, x1
    b.hs    3f
    ldp     x3, x4, [x0], #16
    ldr     x5, [x0], #8
    cmp     w4, #1027
    b.ne    2b
    add     x5, x5, x2
    str     x5, [x2, x3]
    b       2b
3:
    mov     x0, xzr
    bl      set_up_cpu
    mov     x0, x19
    bl      guest_start
4:  wfi
    b       4b

// Entered by PSCI CPU_ON with the vCPU's index in x0. What it finds in SCTLR and DAIF is handed on to be checked.
    .global secondary_start
secondary_start:
    mrs     x20, sctlr_el1
    mrs     x21, daif
    msr     daifset, #0xf
    mov     x19, x0
    bl      enable_translation
    mov     x0, x19
    bl      set_up_cpu
    mov     x0, x19
    mov     x1, x20
    mov     x2, x21
    bl      guest_secondary
5:  wfi
    b       5b

// x0: index. Gives this vCPU its stack, its local record (TPIDR_EL1), the vectors and its FP registers.
set_up_cpu:
    adrp    x1, CPU_STACKS
    add     x1, x1, :lo12:CPU_STACKS
    mov     x2, #{stack_bytes}
    madd    x1, x0, x2, x1
    add     x1, x1, x2
    mov     sp, x1
    adrp    x1, CPU_LOCALS
    add     x1, x1, :lo12:CPU_LOCALS
    mov     x2, #{local_bytes}
    madd    x1, x0, x2, x1
    msr     tpidr_el1, x1
    adrp    x1, vectors
    add     x1, x1, :lo12:vectors
    msr     vbar_el1, x1
    mov     x1, #(3 << 20)          // CPACR_EL1.FPEN: FP/SIMD is not trapped
    msr     cpacr_el1, x1
    isb
    ret

// Level 1 of a 39-bit space: the first GiB is devices, the next eight are memory. Identity.
build_table:
    adrp    x0, ROOT_TABLE
    add     x0, x0, :lo12:ROOT_TABLE
    add     x1, x0, #4096
    mov     x2, x0
1:  stp     xzr, xzr, [x2], #16
    cmp     x2, x1
    b.lo    1b
    mov     x2, #0x401              // block, attribute 0, accessed
    movk    x2, #0x0060, lsl #48    // never executable
    str     x2, [x0]
    mov     x2, #0x705              // block, attribute 1, inner shareable, accessed
    movk    x2, #0x4000, lsl #16    // from 1 GiB
    movk    x2, #0x0040, lsl #48    // not executable at EL0
    mov     x3, #0x40000000
    mov     x4, #1
2:  str     x2, [x0, x4, lsl #3]
    add     x2, x2, x3
    add     x4, x4, #1
    cmp     x4, #8
    b.ls    2b
    dsb     sy
    mov     x2, x0                  // drop stale lines that a former life may have left over the table
3:  dc      ivac, x2
    add     x2, x2, #16
    cmp     x2, x1
    b.lo    3b
    dsb     sy
    ret

// Clobbers x0-x3.
enable_translation:
    mov     x0, #0xff00             // attributes: 0 nGnRnE, 1 write-back, 2 non-cacheable, 3 nGnRE
    movk    x0, #0x0444, lsl #16
    msr     mair_el1, x0
    mrs     x1, id_aa64mmfr0_el1
    and     x1, x1, #0xf
    mov     x2, #5
    cmp     x1, x2
    csel    x1, x1, x2, ls          // at most 48 bits of output
    mov     x0, #0x3519             // T0SZ 25, walks write-back inner shareable
    movk    x0, #0x0080, lsl #16    // EPD1
    bfi     x0, x1, #32, #3
    msr     tcr_el1, x0
    adrp    x0, ROOT_TABLE
    add     x0, x0, :lo12:ROOT_TABLE
    msr     ttbr0_el1, x0
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     nsh
    isb
    mov     x0, #0x1805             // M, C, I and the reserved ones of Armv8.0
    movk    x0, #0x30d0, lsl #16
    msr     sctlr_el1, x0
    isb
    ret
