// The first instructions of the image, on the boot core and on the others.
//
// The boot protocol is Linux's for arm64 (Documentation/arch/arm64/booting.rst): translation and data cache off, the device
// tree's address in x0, the image on a 4 KiB boundary at least. Nothing else is assumed.

.section .head, "ax"
.global _head
_head:
    b start                     // code0
    .long 0                     // code1
    .quad 0                     // text_offset
    .quad _image_size           // image_size, with everything up to the last stack
    .quad 0b1010                // flags: little endian, 4 KiB pages, anywhere in memory
    .quad 0
    .quad 0
    .quad 0
    .ascii "ARM\x64"
    .long 0

// SCTLR_EL2 with everything off: RES1 bits of Armv8.0.
.equ SCTLR_OFF, 0x30c50830
// M (0), C (2), SA (3), I (12), WXN (19).
.equ SCTLR_ON, SCTLR_OFF | 1 << 0 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19
// Attribute 0: Device-nGnRE. Attribute 1: normal memory, write-back.
.equ MAIR, 0xff04
// 48 bits of address in 4 KiB granules, walks inner shareable and write-back; PS (18:16) comes from the core. RES1: 23, 31.
.equ TCR, 16 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 1 << 31

.macro address register, symbol
    adrp \register, \symbol
    add \register, \register, :lo12:\symbol
.endm

// Translation and caches off, EL2's registers as the rest expects them. Clobbers x9.
.macro quiet_el2
    msr daifset, #0xf
    mrs x9, CurrentEL
    cmp x9, #2 << 2
    b.ne hang
    ldr x9, =SCTLR_OFF
    msr sctlr_el2, x9
    mov x9, #1 << 31            // HCR_EL2.RW, nothing else: no VHE, no traps
    msr hcr_el2, x9
    msr spsel, #1
    isb
.endm

// Translation on, with the table in x9. Clobbers x9 to x11.
.macro translate
    msr ttbr0_el2, x9
    ldr x9, =MAIR
    msr mair_el2, x9
    ldr x9, =TCR
    mrs x10, id_aa64mmfr0_el1
    and x10, x10, #0xf
    mov x11, #5                 // 48 bits at most
    cmp x10, x11
    csel x10, x10, x11, lo
    bfi x9, x10, #16, #3
    msr tcr_el2, x9
    isb
    tlbi alle2
    ic iallu
    dsb nsh
    isb
    ldr x9, =SCTLR_ON
    msr sctlr_el2, x9
    isb
.endm

.section .text.start, "ax"
start:
    mrs x21, cntpct_el0         // when the image began
    quiet_el2
    mov x19, x0

    // What follows is written with the caches off and read with them on: drop whatever lines a loader left of it.
    address x0, _file_end
    address x1, _image_end
    bl invalidate
    address x0, _sparse_start
    address x1, _bss_end
1:  stp xzr, xzr, [x0], #16
    cmp x0, x1
    b.lo 1b

    // The words of .sparse that are not zero: pairs of an offset and a word, up to one that is zero.
    address x0, _sparse_start
    address x1, _sparse_words
0:  ldp x2, x3, [x1], #16
    str x3, [x0, x2]
    cbnz x3, 0b

    // Relocate. An even entry is the offset of a word to which the image's address is added; an odd one has, above its lowest bit, a bit for
    // each of the 63 words behind those before (generic ELF ABI, SHT_RELR).
    address x0, _head
    address x1, _relr_start
    address x2, _relr_end
2:  cmp x1, x2
    b.hs 3f
    ldr x3, [x1], #8
    tbnz x3, #0, 4f
    add x4, x0, x3
    ldr x5, [x4]
    add x5, x5, x0
    str x5, [x4], #8            // x4: the word that the next bit map begins with
    b 2b
4:  mov x6, x4
    add x4, x4, #63 * 8
5:  lsr x3, x3, #1
    cbz x3, 2b
    tbz x3, #0, 6f
    ldr x5, [x6]
    add x5, x5, x0
    str x5, [x6]
6:  add x6, x6, #8
    b 5b
3:  // Relocated words too were written past the caches.
    address x0, _head
    address x1, _file_end
    bl invalidate

    msr tpidr_el2, xzr          // core 0
    address x0, core_stacks
    mov x1, #STACK_SIZE
    add x0, x0, x1
    mov sp, x0
    mov x29, xzr
    mov x30, xzr

    // The first tables map the image with its final permissions, and the device tree; built by Rust that needs neither
    // caches nor atomics.
    mov x0, x19
    bl early_tables
    mov x9, x0
    translate
    mov x0, x19
    mov x1, x21
    b kernel_main

// Secondary cores, from PSCI (core number in x0) or a spin table (see spin_entry).
.global secondary_start
secondary_start:
    quiet_el2
    mov x20, x0
    address x9, boot_translation
    ldr x9, [x9]
    translate
    msr tpidr_el2, x20
    address x0, core_stacks
    mov x1, #STACK_SIZE
    madd x0, x20, x1, x0
    add x0, x0, x1
    mov sp, x0
    mov x29, xzr
    mov x30, xzr
    mov x0, x20
    b secondary_main

// From a spin table nothing says which core this is: its MPIDR is looked up in core_affinities, whose index it takes.
.global spin_entry
spin_entry:
    mrs x1, mpidr_el1
    ldr x2, =0xff00ffffff
    and x1, x1, x2
    address x2, core_affinities
    mov x0, xzr
4:  ldr x3, [x2, x0, lsl #3]
    cmp x3, x1
    b.eq secondary_start
    add x0, x0, #1
    cmp x0, #MAX_CORES
    b.lo 4b

hang:
    wfi
    b hang

// Drops the cache lines from x0 to x1, without writing them back: nothing in them is ours. Clobbers x2 to x4.
invalidate:
    mrs x2, ctr_el0
    ubfx x2, x2, #16, #4
    mov x3, #4
    lsl x2, x3, x2
    sub x3, x2, #1
    bic x0, x0, x3
5:  dc ivac, x0
    add x0, x0, x2
    cmp x0, x1
    b.lo 5b
    dsb sy
    ret

// replace_translation(table): the final tables for the early ones, on the boot core. With translation off in between, no
// address is ever translated by two tables at once; nothing but registers is touched meanwhile.
.global replace_translation
replace_translation:
    mov x9, x0
    ldr x12, =SCTLR_OFF
    dsb sy
    msr sctlr_el2, x12
    isb
    translate
    ret

// hearth_fault(x0: vector, the first x0 in TPIDR_EL0): a bug of ours. All registers go to the emergency stack.
.global hearth_fault
hearth_fault:
    msr tpidrro_el0, x1
    msr tpidr_el1, x2
    mov x2, sp
    msr spsel, #0
    address x1, emergency_stacks
    msr contextidr_el1, x0
    mrs x0, tpidr_el2
    add x0, x0, #1
    add x1, x1, x0, lsl #13
    mrs x0, contextidr_el1
    mov sp, x1
    sub sp, sp, #36 * 8
    stp x2, x0, [sp, #31 * 8]
    mrs x0, tpidr_el0
    mrs x1, tpidrro_el0
    mrs x2, tpidr_el1
    stp x0, x1, [sp]
    stp x2, x3, [sp, #2 * 8]
    stp x4, x5, [sp, #4 * 8]
    stp x6, x7, [sp, #6 * 8]
    stp x8, x9, [sp, #8 * 8]
    stp x10, x11, [sp, #10 * 8]
    stp x12, x13, [sp, #12 * 8]
    stp x14, x15, [sp, #14 * 8]
    stp x16, x17, [sp, #16 * 8]
    stp x18, x19, [sp, #18 * 8]
    stp x20, x21, [sp, #20 * 8]
    stp x22, x23, [sp, #22 * 8]
    stp x24, x25, [sp, #24 * 8]
    stp x26, x27, [sp, #26 * 8]
    stp x28, x29, [sp, #28 * 8]
    str x30, [sp, #30 * 8]
    mov x0, sp
    bl fault
    b hang
