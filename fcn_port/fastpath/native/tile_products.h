/* Products of a few tiles with a panel of kernels, at one point of Winograd's filtering.
 *
 * Few products are summed before their sum is added to the others, as the interpolation makes rounding larger again. Sums of
 * sums stay in registers where these suffice, with AVX-512: storing one takes the time of two products. So fewer rows go
 * together than in vector.h.
 */
#ifndef TILE_PRODUCTS_H
#define TILE_PRODUCTS_H

#include "vector.h"

#include "tables.h" /* at most SUMMED products */

#if LANES == 8
#define TOGETHER 5 /* rows; of six AVX2's registers are full, and the end of a sum costs 18 cycles, not 5 */
#else
#define TOGETHER 6
#endif
#define SUMMED_HERE (LANES == 8 ? SUMMED : SUMMED / 2) /* AVX2 has half the registers, so that sums of sums go to memory */

/* Rows of `length` numbers `apart` floats from each other. `added`: to what lies there. */
struct tile_rows {
    const float *a;
    int64_t apart, length;
    struct fetching next;
    int64_t added;
};

/* `count` rows times a panel of kernels, of which `vectors` vectors count, to (count, PANEL). */
INLINE void multiply_some_tiles(struct tile_rows rows, const float *kernels, int count, int vectors, float *to)
{
    vec all[TOGETHER][VECTORS], sum[TOGETHER][VECTORS];
    UNROLL for (int r = 0; r < count; r++)
        UNROLL for (int v = 0; v < vectors; v++)
            all[r][v] = (vec){0};
    if (rows.added)
        UNROLL for (int r = 0; r < count; r++)
            UNROLL for (int v = 0; v < vectors; v++)
                all[r][v] = load(to + r * PANEL + v * LANES);
    const float *a = rows.a, *end = a + rows.length;
    LOOP while (a < end) {
        const float *until = a + least(end - a, SUMMED_HERE);
        UNROLL for (int r = 0; r < count; r++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[r][v] = (vec){0};
        LOOP for (; a < until; a++) {
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
                    sum[r][v] = multiply_add(all_of(a[r * rows.apart]), k[v], sum[r][v]);
        }
        UNROLL for (int r = 0; r < count; r++)
            UNROLL for (int v = 0; v < vectors; v++)
                all[r][v] += sum[r][v];
    }
    UNROLL for (int r = 0; r < count; r++)
        UNROLL for (int v = 0; v < vectors; v++)
            *(vec *)(to + r * PANEL + v * LANES) = all[r][v];
}

/* The same for 1 <= count <= TOGETHER rows and a panel of which the first `channels` are wanted. */
static __attribute__((noinline)) void multiply_tiles(const struct tile_rows *rows, const float *kernels, int count,
                                                     int64_t channels, float *to)
{
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        channels > PANEL / 2 ? multiply_some_tiles(*rows, kernels, n, VECTORS, to)                                     \
                             : multiply_some_tiles(*rows, kernels, n, VECTORS / 2, to);                                \
        return;
    switch (count) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5)
#if TOGETHER > 5
        CASE(6)
#endif
    }
#undef CASE
}

#endif
