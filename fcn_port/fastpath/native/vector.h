/* Vectors of floats, products of a few rows with a panel of kernels, and what is done to a sum before it is stored.
 *
 * A vector holds as many channels as a register does. Loads may reach past the last channel of a blob, stores never do.
 */
#ifndef VECTOR_H
#define VECTOR_H

#include <stdint.h>

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
#define AT_ONCE 128 /* products summed before the sum is added to the others: keeps rounding small */

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define LOOP _Pragma("GCC unroll 1")

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int mask __attribute__((vector_size(4 * LANES)));

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE vec choose(mask where, vec a, vec b) { return (vec)(((mask)a & where) | ((mask)b & ~where)); }
INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

#define LINE 16 /* floats that a cache fetches at once */
#define FEW 3 /* rows */
#define SOON 48 /* numbers of a row */
#define FETCHED (PANEL < LINE ? PANEL : LINE) /* floats of the next panel for each number of a row */

/* Floats between rows of `length`: an odd number of lines, as rows 2048 bytes apart would share two places of a cache. */
INLINE int64_t spread(int64_t length) { return ((length + LINE - 1) / LINE | 1) * LINE; }

/* The first `count` floats of a vector. */
INLINE void store(float *to, vec value, int64_t count)
{
    if (count >= LANES) {
        *(vec *)to = value;
        return;
    }
    float lanes[LANES];
    *(vec *)lanes = value;
    LOOP for (int64_t i = 0; i < count; i++)
        to[i] = lanes[i];
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
    if (ROWS != 12 || left < 20)
        return (left + (left + ROWS - 1) / ROWS - 1) / most((left + ROWS - 1) / ROWS, 1);
    int64_t over = left % ROWS;
    return left < 36 && ((over >= 1 && over <= 3) || (over >= 10 && left >= 34)) ? 9 : ROWS;
}

/* Rows of numbers to be multiplied: row r begins at a + r * apart, and is `segments` runs of `length` floats.
 *
 * For each number of a row, `step` floats are fetched from `ahead` on, which is read next: kernels come from memory while
 * others are at work. */
struct rows {
    const float *a;
    int64_t apart, segments, between, length;
    const float *ahead;
    int64_t step;
};

/* What is done to the sums of a whole panel before they are stored, row after row `y_apart` floats apart: bias, another
 * value unless z is 0, and nothing is left below `floor`. */
struct ending {
    const float *bias, *z;
    float *y;
    int64_t y_apart, z_apart;
    float floor;
};

/* `count` rows times a panel of kernels (numbers of a row, PANEL), of which `vectors` vectors count, to (count, PANEL), or,
 * where there is an ending, to its y. */
INLINE void multiply_some(struct rows rows, const float *kernels, int count, int vectors, float *to,
                          const struct ending *ending)
{
    vec sum[ROWS][VECTORS];
    int64_t summed = 0;
    int fresh = 1;
    UNROLL for (int r = 0; r < count; r++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[r][v] = (vec){0};
    LOOP for (int64_t s = 0; s < rows.segments; s++) {
        const float *a = rows.a + s * rows.between;
        LOOP for (int64_t first = 0; first < rows.length; first += AT_ONCE) {
            int64_t end = least(first + AT_ONCE, rows.length);
            LOOP for (int64_t c = first; c < end; c++) {
                vec k[VECTORS];
                UNROLL for (int v = 0; v < vectors; v++)
                    k[v] = load(kernels + v * LANES);
                kernels += PANEL;
                if (count <= FEW) { /* kernels are read once: memory sets the pace */
                    UNROLL for (int v = 0; v < vectors; v++)
                        __builtin_prefetch(kernels + SOON * PANEL + v * LANES, 0, 2);
                } else {
                    __builtin_prefetch(rows.ahead, 0, 2);
                    rows.ahead += rows.step;
                }
                UNROLL for (int r = 0; r < count; r++)
                    UNROLL for (int v = 0; v < vectors; v++)
                        sum[r][v] += a[r * rows.apart + c] * k[v];
            }
            summed += end - first;
            int last = s == rows.segments - 1 && end == rows.length;
            if (summed < AT_ONCE && !last)
                continue;
            if (last && ending) {
                vec bias[VECTORS], floor = (vec){0} + ending->floor;
                UNROLL for (int v = 0; v < vectors; v++)
                    bias[v] = load(ending->bias + v * LANES);
                UNROLL for (int r = 0; r < count; r++)
                    UNROLL for (int v = 0; v < vectors; v++) {
                        vec value = sum[r][v] + bias[v];
                        if (!fresh)
                            value += load(to + r * PANEL + v * LANES);
                        if (ending->z)
                            value += load(ending->z + r * ending->z_apart + v * LANES);
                        *(vec *)(ending->y + r * ending->y_apart + v * LANES) = choose(value < floor, floor, value);
                    }
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

enum { NONE, RELU, LEAKY, PRELU };

#endif
