/* One channel of a 3 x 3 depthwise convolution on Cortex-M with DSP instructions and an FPU: its numbers, widened to 16
 * bits with pads around, lie in lines (depthwise_dsp.c); two neighbouring outputs at a time. */
#include "dsp.inc"

/* r4, r6, r8: weights 0 and 1 of each line, r5, r7, r9: 1 and 2. r2, r3: sums. r0: the place, r1: bytes of a line. */
.macro taps stride, low, high, post:vararg
    ldrd r10, r11, [r0]\post
    smlad r2, r10, \low, r2
    smlabt r2, r11, \high, r2
.if \stride == 1
    smlatb r3, r10, \low, r3
    smlad r3, r11, \high, r3
.else
    smlad r3, r11, \low, r3
.endif
.endm

.macro third stride, high, offset
.if \stride == 2
    ldr r10, [r0, #\offset]
    smlabt r3, r10, \high, r3
.endif
.endm

/* void edgert_dsp_planeN(const int16_t *plane, int8_t *out, const int32_t *weights, const edgert_dsp_plane_shape *) */
.macro plane stride
function edgert_dsp_plane\stride
    push {r0, r1, r4-r11, lr}
    sub sp, #28
    ldmia r3, {r4-r10}
    stm sp, {r4-r10}              /* MAGIC - zero, step of outputs, their number, lines, lines' steps: out and in */
    mov r1, r10
    ldmia r2!, {r5, r7, r9}
    sxtb16 r4, r5
    sxtb16 r5, r5, ror #8
    sxtb16 r6, r7
    sxtb16 r7, r7, ror #8
    sxtb16 r8, r9
    sxtb16 r9, r9, ror #8
    vldmia r2, {s4-s6}            /* what sums start from, twice; the multiplier */
    mov_magic s7, r10
1:
    ldrd r0, r12, [sp, #28]       /* of this line: plane, out */
    ldr lr, [sp, #8]
2:
    vmov r2, r3, s4, s5
    taps \stride, r4, r5
    third \stride, r5, 8
    add r0, r1
    taps \stride, r6, r7
    third \stride, r7, 8
    add r0, r1
.if \stride == 1
    taps \stride, r8, r9, , #4
.else
    taps \stride, r8, r9, , #8
.endif
    third \stride, r9, 0
    sub r0, r0, r1, lsl #1
    vmov s0, s1, r2, r3
    vcvt.f32.s32 s0, s0
    vcvt.f32.s32 s1, s1
    vmul.f32 s0, s0, s6
    vmul.f32 s1, s1, s6
    vadd.f32 s0, s0, s7
    vadd.f32 s1, s1, s7
    vmov r2, r3, s0, s1
    ldrd r10, r11, [sp]
    sub r2, r2, r10
    sub r3, r3, r10
    ssat r2, #8, r2
    ssat r3, #8, r3
    strb r2, [r12]
    subs lr, #2
    blt 3f                        /* an odd number of outputs: no second one */
    strb r3, [r12, r11]
    add r12, r12, r11, lsl #1
    bne 2b
3:
    ldrd r2, r3, [sp, #12]        /* lines left, step of lines out */
    ldr r10, [sp, #20]
    ldrd r0, r12, [sp, #28]
    add r0, r10
    add r12, r3
    strd r0, r12, [sp, #28]
    subs r2, #1
    str r2, [sp, #12]
    bne 1b
    add sp, #36
    pop {r4-r11, pc}
.size edgert_dsp_plane\stride, . - edgert_dsp_plane\stride
.endm

plane 1
plane 2

/* void edgert_dsp_channel(const int8_t *image, int16_t *to, const int32_t *): lines, numbers of each, bytes from one to
 * the next, to the next line, and of the plane to its next line. */
function edgert_dsp_channel
    push {r4-r11, lr}
    ldmia r2, {r2, r3, r4, r5, r6}
    add r12, r4, r4, lsl #1
1:
    lsrs lr, r3, #2
    beq 3f
2:
    ldrsb r8, [r0, r4]
    ldrsb r9, [r0, r4, lsl #1]
    ldrsb r10, [r0, r12]
    ldrsb r7, [r0]
    add r0, r0, r4, lsl #2
    strh r8, [r1, #2]
    strh r9, [r1, #4]
    strh r10, [r1, #6]
    strh r7, [r1], #8
    subs lr, #1
    bne 2b
3:
    ands lr, r3, #3
    beq 5f
4:
    ldrsb r7, [r0]
    add r0, r4
    strh r7, [r1], #2
    subs lr, #1
    bne 4b
5:
    add r0, r5
    add r1, r6
    subs r2, #1
    bne 1b
    pop {r4-r11, pc}
.size edgert_dsp_channel, . - edgert_dsp_channel
