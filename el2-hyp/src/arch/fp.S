// Saving and loading the FP and SIMD registers. The crate is built softfloat, so that the compiler never uses them.
.section .text.fp, "ax"
.arch_extension fp
.arch_extension simd

.macro all_pairs op
    \op q0, q1, [x0]
    \op q2, q3, [x0, #2 * 16]
    \op q4, q5, [x0, #4 * 16]
    \op q6, q7, [x0, #6 * 16]
    \op q8, q9, [x0, #8 * 16]
    \op q10, q11, [x0, #10 * 16]
    \op q12, q13, [x0, #12 * 16]
    \op q14, q15, [x0, #14 * 16]
    \op q16, q17, [x0, #16 * 16]
    \op q18, q19, [x0, #18 * 16]
    \op q20, q21, [x0, #20 * 16]
    \op q22, q23, [x0, #22 * 16]
    \op q24, q25, [x0, #24 * 16]
    \op q26, q27, [x0, #26 * 16]
    \op q28, q29, [x0, #28 * 16]
    \op q30, q31, [x0, #30 * 16]
.endm

.global hearth_fp_save
hearth_fp_save:
    all_pairs stp
    mrs x1, fpsr
    mrs x2, fpcr
    add x0, x0, #32 * 16
    stp x1, x2, [x0]
    ret

.global hearth_fp_restore
hearth_fp_restore:
    all_pairs ldp
    add x0, x0, #32 * 16
    ldp x1, x2, [x0]
    msr fpsr, x1
    msr fpcr, x2
    ret

.arch_extension nosimd
.arch_extension nofp
