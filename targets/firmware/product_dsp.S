/* A tile of a product of bytes on Cortex-M with DSP instructions and an FPU: N pixels times all output channels, two at
 * a time, requantized. product_dsp.c says how its operands lie. */
#include "dsp.inc"

/* The sums of two channels from one 16-bit number a weight, 256 w1 + w0 + 128: SMLAD takes it as it is, and its low
 * bytes, which UXTB16 widens. r0.. have the sums of the former with each pixel, r4.. those of the latter. */
.macro pair n
    ldr r10, [lr], #4
.if \n == 4
    ldrd r8, r9, [r12], #8
    uxtb16 r11, r10
    smlad r0, r8, r10, r0
    smlad r4, r8, r11, r4
    smlad r1, r9, r10, r1
    smlad r5, r9, r11, r5
    ldrd r8, r9, [r12], #8
    smlad r2, r8, r10, r2
    smlad r6, r8, r11, r6
    smlad r3, r9, r10, r3
    smlad r7, r9, r11, r7
.endif
.if \n == 3
    ldmia r12!, {r7, r8, r9}
    uxtb16 r11, r10
    smlad r0, r7, r10, r0
    smlad r4, r7, r11, r4
    smlad r1, r8, r10, r1
    smlad r5, r8, r11, r5
    smlad r2, r9, r10, r2
    smlad r6, r9, r11, r6
.endif
.if \n == 2
    ldrd r8, r9, [r12], #8
    uxtb16 r11, r10
    smlad r0, r8, r10, r0
    smlad r4, r8, r11, r4
    smlad r1, r9, r10, r1
    smlad r5, r9, r11, r5
.endif
.if \n == 1
    ldr r8, [r12], #4
    uxtb16 r11, r10
    smlad r0, r8, r10, r0
    smlad r4, r8, r11, r4
.endif
.endm

/* What the two sums of a pixel start from; \low has 128 times the sum of its bytes. */
.macro start high, low
    sub \low, r9, \low
    add \high, r8, \low
.endm

/* Two channels of one pixel, their sums in `low` and `high`, to floats at s(at) and s(at + 1). */
.macro to_float high, low, even, odd
    sub \high, \high, \low
    vmov \even, \odd, \low, \high
    vcvt.f32.s32 \even, \even
    vcvt.f32.s32 \odd, \odd
    vmul.f32 \even, \even, s8
    vmul.f32 \odd, \odd, s9
    vadd.f32 \even, \even, s10
    vadd.f32 \odd, \odd, s10
    vmov \low, \high, \even, \odd
.endm

.macro to_bytes high, low
    sub \low, \low, r10
    sub \high, \high, r10
    ssat \low, #8, \low
    ssat \high, #8, \high
    strb \low, [r8]
    strb \high, [r8, #1]
.endm

/* void edgert_dsp_tileN(const uint32_t *held, const int32_t *weights, int8_t *out, const edgert_dsp_product_shape *) */
.macro tile n
function edgert_dsp_tile\n
    push {r0-r2, r4-r11, lr}
    sub sp, #16
    mov lr, r1
    ldmia r3, {r4-r7}             /* channel pairs, bytes of a pair's weights, output channels, MAGIC - zero */
    stm sp, {r4-r7}
    mov_magic s10, r8
1:
    ldmia lr!, {r8, r9}           /* 256 b1 and b0 */
    vldmia lr!, {s8, s9}          /* multipliers */
    ldr r12, [sp, #16]
    ldr r10, [sp, #4]
.if \n == 4
    ldmia r12!, {r4-r7}           /* 128 times the sum of a pixel's bytes, which w0 + 128 brings in */
    add r11, lr, r10
    str r11, [sp, #20]
    start r3, r7
.else
    add r3, lr, r10
.endif
.if \n == 3
    ldmia r12!, {r4-r6}
.endif
.if \n == 2
    ldmia r12!, {r4-r5}
.endif
.if \n == 1
    ldr r4, [r12], #4
.endif
    start r0, r4
.if \n > 1
    start r1, r5
.endif
.if \n > 2
    start r2, r6
.endif
    tst r10, #16                  /* eight pairs a turn; in the first one only four where their number is odd */
    bne 3f
2:
    pair \n
    pair \n
    pair \n
    pair \n
3:
    pair \n
    pair \n
    pair \n
    pair \n
.if \n == 4
    ldr r8, [sp, #20]
    cmp lr, r8
.else
    cmp lr, r3
.endif
    bne 2b
    to_float r0, r4, s0, s1
.if \n > 1
    to_float r1, r5, s2, s3
.endif
.if \n > 2
    to_float r2, r6, s4, s5
.endif
.if \n > 3
    to_float r3, r7, s6, s7
.endif
    ldr r8, [sp, #24]             /* out */
    ldrd r9, r10, [sp, #8]
    add r11, r8, #2
    str r11, [sp, #24]
    to_bytes r0, r4
.if \n > 1
    add r8, r9
    to_bytes r1, r5
.endif
.if \n > 2
    add r8, r9
    to_bytes r2, r6
.endif
.if \n > 3
    add r8, r9
    to_bytes r3, r7
.endif
    ldr r11, [sp]
    subs r11, #1
    str r11, [sp]
    bne 1b
    add sp, #28
    pop {r4-r11, pc}
.size edgert_dsp_tile\n, . - edgert_dsp_tile\n
.endm

tile 1
tile 2
tile 3
tile 4

/* uint32_t edgert_dsp_runs(const int8_t *x, int32_t run, uint32_t *to, int32_t step, int32_t taps, int32_t next) */
function edgert_dsp_runs
    push {r4-r9, lr}
    ldrd r8, r9, [sp, #28]
    mov r7, #0x10001
    mov r12, #0                   /* the sum */
1:
    lsrs r6, r1, #2
    beq 3f
2:
    ldr r4, [r0], #4
    sxtb16 r5, r4
    sxtb16 r4, r4, ror #8
    smlad r12, r5, r7, r12
    smlad r12, r4, r7, r12
    str r5, [r2]
    str r4, [r2, r3]
    add r2, r2, r3, lsl #1
    subs r6, #1
    bne 2b
3:
    tst r1, #2
    beq 4f
    ldrsb r4, [r0], #1
    ldrsb r5, [r0], #1
    pkhbt r4, r4, r5, lsl #16
    smlad r12, r4, r7, r12
    str r4, [r2]
    add r2, r3
4:
    tst r1, #1
    beq 5f
    ldrsb r4, [r0], #1
    add r12, r4
    uxth r4, r4
    str r4, [r2]
    add r2, r3
5:
    add r0, r9
    subs r8, #1
    bne 1b
    mov r0, r12
    pop {r4-r9, pc}
.size edgert_dsp_runs, . - edgert_dsp_runs
