// The libm functions that kernels may call beside those of compiler_rt (exp, log, sin, cos, fmod, floor, memcpy, ...).
// Linked into each artifact with section garbage collection, so a model carries only what it calls.
const std = @import("std");
const m = std.math;

export fn tanhf(x: f32) f32 { return m.tanh(x); }
export fn tanh(x: f64) f64 { return m.tanh(x); }
export fn sinhf(x: f32) f32 { return m.sinh(x); }
export fn sinh(x: f64) f64 { return m.sinh(x); }
export fn coshf(x: f32) f32 { return m.cosh(x); }
export fn cosh(x: f64) f64 { return m.cosh(x); }
export fn asinf(x: f32) f32 { return m.asin(x); }
export fn asin(x: f64) f64 { return m.asin(x); }
export fn acosf(x: f32) f32 { return m.acos(x); }
export fn acos(x: f64) f64 { return m.acos(x); }
export fn atanf(x: f32) f32 { return m.atan(x); }
export fn atan(x: f64) f64 { return m.atan(x); }
export fn atan2f(y: f32, x: f32) f32 { return m.atan2(y, x); }
export fn atan2(y: f64, x: f64) f64 { return m.atan2(y, x); }
export fn asinhf(x: f32) f32 { return m.asinh(x); }
export fn asinh(x: f64) f64 { return m.asinh(x); }
export fn acoshf(x: f32) f32 { return m.acosh(x); }
export fn acosh(x: f64) f64 { return m.acosh(x); }
export fn atanhf(x: f32) f32 { return m.atanh(x); }
export fn atanh(x: f64) f64 { return m.atanh(x); }
// through double: single-precision pow needs the extra bits of the logarithm
export fn powf(x: f32, y: f32) f32 { return @floatCast(m.pow(f64, x, y)); }
export fn pow(x: f64, y: f64) f64 { return m.pow(f64, x, y); }
export fn expm1f(x: f32) f32 { return m.expm1(x); }
export fn expm1(x: f64) f64 { return m.expm1(x); }
export fn log1pf(x: f32) f32 { return m.log1p(x); }
export fn log1p(x: f64) f64 { return m.log1p(x); }
export fn cbrtf(x: f32) f32 { return m.cbrt(x); }
export fn cbrt(x: f64) f64 { return m.cbrt(x); }
export fn hypotf(x: f32, y: f32) f32 { return m.hypot(x, y); }
export fn hypot(x: f64, y: f64) f64 { return m.hypot(x, y); }
export fn exp10f(x: f32) f32 { return @floatCast(m.pow(f64, 10.0, x)); }
export fn exp10(x: f64) f64 { return m.pow(f64, 10.0, x); }
export fn ldexpf(x: f32, n: i32) f32 { return m.ldexp(x, n); }
export fn ldexp(x: f64, n: i32) f64 { return m.ldexp(x, n); }
export fn nearbyintf(x: f32) f32 { return roundEven(f32, x); }
export fn nearbyint(x: f64) f64 { return roundEven(f64, x); }
export fn rintf(x: f32) f32 { return roundEven(f32, x); }
export fn rint(x: f64) f64 { return roundEven(f64, x); }
export fn roundevenf(x: f32) f32 { return roundEven(f32, x); }
export fn roundeven(x: f64) f64 { return roundEven(f64, x); }

fn roundEven(comptime T: type, x: T) T {
    const big: T = if (T == f32) 0x1p23 else 0x1p52; // from here on every number is whole
    if (!(@abs(x) < big)) return x;
    const y = @abs(x) + big - big;
    return m.copysign(y, x);
}

// erf: series for |x| < 2, the continued fraction of erfc beyond (Abramowitz and Stegun 7.1.6 and 7.1.14), in double
export fn erf(x: f64) f64 {
    const a = @abs(x);
    if (m.isNan(x)) return x;
    if (a >= 6.0) return m.copysign(@as(f64, 1.0), x);
    if (a < 2.0) {
        var term = a;
        var total = a;
        var n: f64 = 0;
        while (@abs(term) > 1e-18 * @abs(total)) {
            n += 1;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            total += term;
            if (n > 200) break;
        }
        return m.copysign(total * @exp(-a * a) * 1.1283791670955126, x);
    }
    var tail: f64 = 0;
    var k: f64 = 60;
    while (k > 0) : (k -= 1) tail = k / 2.0 / (a + tail);
    return m.copysign(1.0 - @exp(-a * a) * 0.5641895835477563 / (a + tail), x);
}
export fn erff(x: f32) f32 { return @floatCast(erf(x)); }
