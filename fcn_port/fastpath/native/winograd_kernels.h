/* Kernels of Winograd's filtering at its points: G g G^T (winograd.c has the rest).
 *
 * A place is a point and one of the pieces that a kernel is cut into, of which those with fewer taps than the last one count
 * at fewer points: (points down, points along, pieces down, pieces along), of which what does not count is left out.
 */
#ifndef WINOGRAD_KERNELS_H
#define WINOGRAD_KERNELS_H

#include "vector.h"

#define MOST 8 /* points along one axis */

/* Points times the pieces that count at each. */
INLINE int64_t places_of(int n, int pieces) { return ((n - 1) * pieces + 1) * ((n - 1) * pieces + 1); }

/* Evaluates a panel of kernels, whose taps lie `tap` floats apart and input channels `channel`, at all points. */
typedef void evaluator(const float *panel, int64_t tap, int64_t channel, int64_t channels, float *to, int64_t apart);

typedef double dvec __attribute__((vector_size(4 * LANES), may_alias));
typedef float halfvec __attribute__((vector_size(2 * LANES), aligned(4), may_alias));

/* G g for `count` numbers g, of a piece with fewer taps than the last one where count < taps: its values at the points,
 * of which infinity is none then. Rows for a and -a are the same for even powers, and opposite for odd ones. */
INLINE void at_kernel_points(const double *kernel, int n, int taps, const dvec *g, int count, dvec *to)
{
    to[0] = kernel[0] * g[0];
    UNROLL for (int p = 1; p < n - 1; p += 2) {
        const double *a = kernel + p * taps;
        dvec even = {0}, odd = {0};
        UNROLL for (int i = 0; i < count; i++) {
            if (i % 2)
                odd += a[i] * g[i];
            else
                even += a[i] * g[i];
        }
        to[p] = even + odd;
        to[p + 1] = even - odd;
    }
    if (count == taps)
        to[n - 1] = kernel[(n - 1) * taps + taps - 1] * g[taps - 1];
}

/* G g G^T of one piece of half a vector of output channels, in double precision, each result rounded once. */
INLINE void evaluate_piece(const double *kernel, int n, int m, int side, int pieces, int y, int x, const float *weights,
                           int64_t tap, float *to, int64_t apart)
{
    const int taps = n - m + 1, of_axis = (n - 1) * pieces + 1;
    const int height = y < pieces - 1 ? m : taps, width = x < pieces - 1 ? m : taps;
    const int rows = height < taps ? n - 1 : n, cols = width < taps ? n - 1 : n; /* points with a value */
    dvec g[MOST], some[MOST], half[MOST][MOST];
    UNROLL for (int v = 0; v < width; v++) {
        UNROLL for (int u = 0; u < height; u++)
            g[u] = __builtin_convertvector(*(const halfvec *)(weights + ((y * m + u) * side + x * m + v) * tap), dvec);
        at_kernel_points(kernel, n, taps, g, height, some);
        UNROLL for (int i = 0; i < n; i++)
            half[i][v] = some[i];
    }
    UNROLL for (int i = 0; i < rows; i++) {
        at_kernel_points(kernel, n, taps, half[i], width, some);
        UNROLL for (int j = 0; j < cols; j++) {
            int down = i < n - 1 ? pieces : 1, across = j < n - 1 ? pieces : 1;
            int before = i * pieces * of_axis + j * pieces * down;
            int place = before + (y - pieces + down) * across + x - pieces + across;
            *(halfvec *)(to + place * apart) = __builtin_convertvector(some[j], halfvec);
        }
    }
}

/* The same of all pieces, for some input channels and a panel of output channels. */
INLINE void evaluate_kernels(const double *kernel, int n, int m, int side, int pieces, const float *panel, int64_t tap,
                             int64_t channel, int64_t channels, float *to, int64_t apart)
{
    LOOP for (int64_t c = 0; c < channels; c++)
        LOOP for (int64_t k = 0; k < PANEL; k += LANES / 2)
            UNROLL for (int y = 0; y < pieces; y++)
                UNROLL for (int x = 0; x < pieces; x++)
                    evaluate_piece(kernel, n, m, side, pieces, y, x, panel + c * channel + k, tap, to + c * PANEL + k,
                                   apart);
}

#endif
