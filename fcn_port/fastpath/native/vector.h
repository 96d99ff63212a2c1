/* Vectors of floats, products of a few rows with a panel of kernels, and what is done to a sum before it is stored.
 *
 * A vector holds as many channels as a register does. Loads may reach past the last channel of a blob, stores never do.
 */
#ifndef VECTOR_H
#define VECTOR_H

#include <stdint.h>
#ifdef __SSE__
#include <immintrin.h>
#elif defined __aarch64__
#include <arm_neon.h>
#endif

/* Floats of a register, and as many rows and vectors of sums as registers hold. */
#if defined __AVX512F__
#define LANES 16
#define ROWS 12
#define VECTORS 2
#elif defined __AVX__
#define LANES 8
#define ROWS 6
#define VECTORS 2
#elif defined __aarch64__
#define LANES 4
#define ROWS 6
#define VECTORS 4
#else
#define LANES 4
#define ROWS 6
#define VECTORS 2
#endif
#define PANEL (VECTORS * LANES)
/* Products summed before the sum is added to the others: keeps rounding small. */
#define AT_ONCE 128

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__ /* version 14 unrolls by a number before it puts functions into others, where what counts to 12 then stays a loop */
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define LOOP _Pragma("GCC unroll 1")

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define LINED __attribute__((aligned(4 * LANES))) /* an array of vectors in memory, of which none lies in two lines */
typedef int mask __attribute__((vector_size(4 * LANES)));
typedef unsigned digits __attribute__((vector_size(4 * LANES)));

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE vec choose(mask where, vec a, vec b) { return (vec)(((mask)a & where) | ((mask)b & ~where)); }

/* The same in a register: where two sums take it, GCC would read it from memory twice. */
INLINE vec held(vec x)
{
#ifdef __SSE__
    __asm__("" : "+v"(x));
#elif defined __aarch64__
    __asm__("" : "+w"(x));
#endif
    return x;
}

INLINE vec all_of(float value) { return (vec){0} + value; }

/* a * b + sum, rounded once where the processor can: GCC decides for each loop anew whether to, and rows would have other bits
 * by themselves than side by side. */
INLINE vec multiply_add(vec a, vec b, vec sum)
{
#if defined __AVX512F__
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined __FMA__ && defined __AVX__
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#else
    return a * b + sum;
#endif
}

/* Rounded once, as sqrtf is. */
INLINE vec square_root(vec value)
{
#if defined __AVX512F__
    return (vec)_mm512_sqrt_ps((__m512)value);
#elif defined __AVX__
    return (vec)_mm256_sqrt_ps((__m256)value);
#elif defined __SSE__
    return (vec)_mm_sqrt_ps((__m128)value);
#elif defined __aarch64__
    return (vec)vsqrtq_f32((float32x4_t)value);
#else
    UNROLL for (int i = 0; i < LANES; i++)
        value[i] = __builtin_sqrtf(value[i]);
    return value;
#endif
}

/* The larger of both; a value that is not a number stays. */
INLINE vec above(vec floor, vec value)
{
#if defined __AVX512F__
    return (vec)_mm512_max_ps((__m512)floor, (__m512)value);
#elif defined __AVX__
    return (vec)_mm256_max_ps((__m256)floor, (__m256)value);
#elif defined __SSE__
    return (vec)_mm_max_ps((__m128)floor, (__m128)value);
#else
    return choose(value < floor, floor, value);
#endif
}

/* The smaller of both; a value that is not a number stays. */
INLINE vec below(vec ceiling, vec value)
{
#if defined __AVX512F__
    return (vec)_mm512_min_ps((__m512)ceiling, (__m512)value);
#elif defined __AVX__
    return (vec)_mm256_min_ps((__m256)ceiling, (__m256)value);
#elif defined __SSE__
    return (vec)_mm_min_ps((__m128)ceiling, (__m128)value);
#else
    return choose(value > ceiling, ceiling, value);
#endif
}

/* The greater of both, the first of equal ones; what is no number stays, whichever it is. */
INLINE vec greater_of(vec first, vec value)
{
#if defined __AVX512F__
    const __mmask16 odd = _mm512_cmp_ps_mask((__m512)value, (__m512)value, _CMP_UNORD_Q);
    return (vec)_mm512_mask_mov_ps(_mm512_max_ps((__m512)value, (__m512)first), odd, (__m512)value);
#elif defined __AVX__
    const __m256 odd = _mm256_cmp_ps((__m256)value, (__m256)value, _CMP_UNORD_Q);
    return (vec)_mm256_blendv_ps(_mm256_max_ps((__m256)value, (__m256)first), (__m256)value, odd);
#else
    return choose((value <= first) | (first != first), first, value);
#endif
}

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* e^x + `less` for x <= 0, to the last digits for 0 and -1: 2^n times e^rest - 1, the rest being within half of ln 2,
 * and 2^n + less. Below -87, where floats have ever fewer digits, 2^64 times as much is rounded in the end; below -104 is 0. */
INLINE vec exponential(vec x, float less)
{
    const mask low = x < -87, none = x < -104;
    vec kept = choose(none, (vec){0} - 104, x), n = kept * 1.44269504f + 12582912.f; /* 1.5 * 2^23: an integer */
    digits last = ((digits)n << 23) + (127u << 23) + ((digits)low & (64u << 23)); /* the last digits of the sum are n */
    vec power = (vec)(last & ~(digits)none); /* 2^n */
    n -= 12582912.f;
    vec rest = kept - n * 0.693145752f - n * 1.42860677e-6f, sum = (vec){0} + 1.f / 5040;
    static const float factors[] = {1.f / 720, 1.f / 120, 1.f / 24, 1.f / 6, 0.5f, 1};
    UNROLL for (int i = 0; i < 6; i++)
        sum = sum * rest + factors[i];
    sum *= rest;
    return choose(x == x, choose(low, (sum * power + power) * 0x1p-64f + less, sum * power + (power + less)), x);
}

#define SIGN 0x80000000u
INLINE vec size_of(vec x) { return (vec)((digits)x & ~SIGN); }

INLINE vec sigmoid(vec x)
{
    vec e = exponential(-size_of(x), 0);
    return choose(x < 0, e, (vec){0} + 1) / (1 + e);
}

INLINE vec tangent(vec x)
{
    vec e = exponential(-2 * size_of(x), -1), t = e / (2 + e); /* 0 has its sign, too */
    return (vec)((digits)size_of(t) | ((digits)x & SIGN));
}

/* tanh(ln(1 + e^x)), by e to the power of -|x|. */
INLINE vec mish_gate(vec x)
{
    vec e = exponential(-size_of(x), 0), twice = 2 * e, square = e * e;
    vec more = choose(x < 0, square, (vec){0} + 1) + twice;
    return more / (more + choose(x < 0, (vec){0} + 2, 2 * square));
}

#define LINE 16 /* floats that a cache fetches at once */
#define FEW 3 /* rows */
#define SOON 48 /* numbers of a row */

/* Floats between rows of `length`: an odd number of lines, as rows 2048 bytes apart would share two places of a cache. */
INLINE int64_t spread(int64_t length) { return ((length + LINE - 1) / LINE | 1) * LINE; }

/* The first `count` floats of a vector. */
INLINE void store(float *to, vec value, int64_t count)
{
    if (count >= LANES) {
        *(vec *)to = value;
        return;
    }
#ifdef __AVX512F__
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)value);
#else
    float lanes[LANES];
    *(vec *)lanes = value;
    LOOP for (int64_t i = 0; i < count; i++)
        to[i] = lanes[i];
#endif
}

/* The first `count` floats of a vector, and `rest` in place of the others. */
INLINE vec first_of(vec value, int64_t count, float rest)
{
    mask lane;
    UNROLL for (int i = 0; i < LANES; i++)
        lane[i] = i;
    return count >= LANES ? value : choose(lane < (int)count, value, all_of(rest));
}

/* The greatest float of a vector; what is no number stays. */
INLINE float greatest_lane(vec value)
{
#ifdef __AVX512F__
    return _mm512_cmp_ps_mask((__m512)value, (__m512)value, _CMP_UNORD_Q) ? __builtin_nanf("")
                                                                               : _mm512_reduce_max_ps((__m512)value);
#else
    float greatest = value[0];
    for (int i = 1; i < LANES; i++)
        greatest = value[i] > greatest || value[i] != value[i] ? value[i] : greatest;
    return greatest;
#endif
}

/* The sum of `n` floats in double precision; behind them lie zeros, up to the next multiple of LANES. */
INLINE double sum_of_all(const float *x, int64_t n)
{
#ifdef __AVX512F__
    __m512d sum = _mm512_setzero_pd();
    LOOP for (int64_t i = 0; i < n; i += LANES / 2)
        sum = _mm512_add_pd(sum, _mm512_cvtps_pd(_mm256_loadu_ps(x + i)));
    return _mm512_reduce_add_pd(sum);
#else
    double sum = 0;
    LOOP for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
#endif
}

/* n floats, up to the next multiple of LANES. */
INLINE void copy(float *to, const float *from, int64_t n)
{
    LOOP for (int64_t i = 0; i < n; i += LANES)
        *(vec *)(to + i) = load(from + i);
}

INLINE void clear(float *to, int64_t n)
{
    LOOP for (int64_t i = 0; i < n; i += LANES)
        *(vec *)(to + i) = (vec){0};
}

/* The rows of the next tile of `left` that are left: 12, 9 or 8, which are quicker for each row than 10, 11 and few. */
INLINE int64_t tile_of(int64_t left)
{
    if (left <= ROWS)
        return left;
    if (ROWS != 12 || left < 20)
        return (left + (left + ROWS - 1) / ROWS - 1) / most((left + ROWS - 1) / ROWS, 1);
    int64_t over = left % ROWS;
    return left < 36 && ((over >= 1 && over <= 3) || (over >= 10 && left >= 34)) ? 9 : ROWS;
}

/* What is fetched while rows are multiplied: for each of their numbers `step` bytes from `ahead` on. */
struct fetching {
    const char *ahead;
    int64_t step;
};

/* What a tile fetches of the panel that is read next, `tiles` of which read each, so many numbers long: all alike, as memory
 * that is asked for much at once lets others wait. */
INLINE struct fetching part_of_next(const float *next, int64_t tile, int64_t tiles, int64_t numbers)
{
    const int64_t step = least(4 * LINE, (4 * PANEL + tiles - 1) / tiles);
    return (struct fetching){(const char *)next + tile * numbers * step, step};
}

/* Rows of numbers to be multiplied: row r begins at a + r * apart, and is `segments` runs of `length` floats. */
struct rows {
    const float *a;
    int64_t apart, segments, between, length;
    struct fetching next;
    int64_t at_once;
    int added; /* to what lies there */
};

/* An activation of straight lines, which sums go through in registers: where it is `sloped`, what is below 0 is multiplied,
 * by `slope` or each channel's of `slopes`; elsewhere nothing is left below `floor` or above `ceiling`. */
struct bend {
    int sloped;
    const float *slopes;
    float slope, floor, ceiling;
};

INLINE vec slope_of(const struct bend *bend, int64_t c) { return bend->slopes ? load(bend->slopes + c) : all_of(bend->slope); }
INLINE vec sloping(vec value, vec slope) { return choose(value < 0, value * slope, value); }

/* What is done to the sums of a panel before they are stored, row after row `y_apart` floats apart: bias, another value
 * unless z is 0, and an activation. The panel's first channel is `channel`, and its first `channels` are stored. */
struct ending {
    const float *bias, *z;
    float *y;
    int64_t y_apart, z_apart, channel, channels;
    const struct bend *bend;
};

INLINE void bend_sums(vec sum[ROWS][VECTORS], int count, int vectors, const struct bend *bend, int64_t channel)
{
    if (bend->sloped) {
        UNROLL for (int v = 0; v < vectors; v++) {
            const vec slope = slope_of(bend, channel + v * LANES);
            UNROLL for (int r = 0; r < count; r++)
                sum[r][v] = sloping(sum[r][v], slope);
        }
        return;
    }
    const vec floor = all_of(bend->floor), ceiling = all_of(bend->ceiling);
    UNROLL for (int r = 0; r < count; r++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[r][v] = above(floor, sum[r][v]);
    if (bend->ceiling < __builtin_inff())
        UNROLL for (int r = 0; r < count; r++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[r][v] = below(ceiling, sum[r][v]);
}

/* `kept`: 0, or what is added to the sums. */
INLINE void put_sums(vec sum[ROWS][VECTORS], int count, int vectors, const float *kept, struct ending ending)
{
    UNROLL for (int v = 0; v < vectors; v++) {
        vec bias = load(ending.bias + v * LANES);
        UNROLL for (int r = 0; r < count; r++)
            sum[r][v] += bias;
    }
    if (kept)
        UNROLL for (int r = 0; r < count; r++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[r][v] += load(kept + r * PANEL + v * LANES);
    if (ending.z)
        UNROLL for (int r = 0; r < count; r++) {
            UNROLL for (int v = 0; v < vectors; v++)
                sum[r][v] += load(ending.z + v * LANES);
            ending.z += ending.z_apart;
        }
    bend_sums(sum, count, vectors, ending.bend, ending.channel);
    const int64_t over = ending.channels - (vectors - 1) * LANES;
    if (over >= LANES) {
        UNROLL for (int r = 0; r < count; r++) {
            UNROLL for (int v = 0; v < vectors; v++)
                *(vec *)(ending.y + v * LANES) = sum[r][v];
            ending.y += ending.y_apart;
        }
        return;
    }
    UNROLL for (int r = 0; r < count; r++) {
        UNROLL for (int v = 0; v < vectors; v++)
            store(ending.y + v * LANES, sum[r][v], ending.channels - v * LANES);
        ending.y += ending.y_apart;
    }
}

/* `count` rows times a panel of kernels (numbers of a row, PANEL), of which `vectors` vectors count, to (count, PANEL), or,
 * where there is an ending, to its y. */
INLINE void multiply_some(struct rows rows, const float *kernels, int count, int vectors, float *to,
                          const struct ending *ending)
{
    vec sum[ROWS][VECTORS];
    int64_t summed = 0;
    int fresh = !rows.added;
    UNROLL for (int r = 0; r < count; r++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[r][v] = (vec){0};
    LOOP for (int64_t s = 0; s < rows.segments; s++) {
        const float *a = rows.a + s * rows.between;
        LOOP for (int64_t first = 0; first < rows.length; first += rows.at_once) {
            int64_t end = least(first + rows.at_once, rows.length);
            LOOP for (int64_t c = first; c < end; c++) {
                vec k[VECTORS];
                UNROLL for (int v = 0; v < vectors; v++)
                    k[v] = load(kernels + v * LANES);
                kernels += PANEL;
                if (count <= FEW) { /* kernels are read once: memory sets the pace */
                    UNROLL for (int v = 0; v < vectors; v++)
                        __builtin_prefetch(kernels + SOON * PANEL + v * LANES, 0, 2);
                } else {
                    __builtin_prefetch(rows.next.ahead, 0, 2);
                    rows.next.ahead += rows.next.step;
                }
                UNROLL for (int r = 0; r < count; r++)
                    UNROLL for (int v = 0; v < vectors; v++)
                        sum[r][v] = multiply_add(all_of(a[r * rows.apart + c]), k[v], sum[r][v]);
            }
            summed += end - first;
            int last = s == rows.segments - 1 && end == rows.length;
            if (summed < rows.at_once && !last)
                continue;
            if (last && ending) {
                put_sums(sum, count, vectors, fresh ? 0 : to, *ending);
                return;
            }
            UNROLL for (int r = 0; r < count; r++)
                UNROLL for (int v = 0; v < vectors; v++) {
                    vec *place = (vec *)(to + r * PANEL + v * LANES);
                    if (!fresh)
                        sum[r][v] += *place;
                    *place = sum[r][v];
                    sum[r][v] = (vec){0};
                }
            summed = fresh = 0;
        }
    }
}

/* The same for 1 <= count <= ROWS rows and a panel of which the first `channels` are wanted. */
void multiply(const struct rows *rows, const float *kernels, int count, int64_t channels, float *to,
              const struct ending *ending);

enum { NONE, RELU, LEAKY, PRELU, CLIP, ELU, SIGMOID, TANH, SWISH, HARD_SIGMOID, HARD_SWISH, ABSOLUTE, MISH };

#endif
