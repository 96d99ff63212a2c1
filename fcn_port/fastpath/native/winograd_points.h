/* To the points of Winograd's filtering and back, along one axis, for tiles of all their outputs and of fewer.
 *
 * The last tile of a row or column has as many outputs as are left, and F(r, k) is evaluated at r + k - 1 of the points that
 * F(m, k) needs: fewer products, with the same kernels, as these lie evaluated at each point. What a kernel's value at a
 * point is divided by for the sake of all points, the window's value makes up for (points.py).
 */
#ifndef WINOGRAD_POINTS_H
#define WINOGRAD_POINTS_H

#include "winograd_kernels.h"

/* A way of filtering: points and outputs along an axis, the side of the kernel and its pieces; B^T and A^T; and for each
 * number of outputs less than m, one after the other in tables of n * n, m * n and n, the same and which points are needed. */
struct form {
    int n, m, side, pieces;
    const float *data, *output, *short_data, *short_output;
    const int *short_points;
};

INLINE int points_of(struct form f, int outputs) { return f.n - f.m + outputs; }

INLINE int point_of(struct form f, int outputs, int i)
{
    return outputs == f.m ? i : f.short_points[(outputs - 1) * f.n + i];
}

/* Sum of a[i] * x[i], for numbers a that the compiler knows. */
INLINE vec dot(const float *a, int n, const vec *x)
{
    vec sum = {0};
    UNROLL for (int i = 0; i < n; i++)
        if (a[i] != 0)
            sum += a[i] * x[i];
    return sum;
}

/* B^T x. Points come in pairs, a and -a, between 0 and infinity (points.py): of their two rows, entries for even powers are
 * the same, and those for odd ones opposite. */
INLINE void at_all_points(const float *data, int n, const vec *x, vec *to)
{
    to[0] = dot(data, n, x);
    to[n - 1] = dot(data + (n - 1) * n, n, x);
    UNROLL for (int p = 1; p < n - 1; p += 2) {
        const float *a = data + p * n, *b = a + n;
        vec even = {0}, odd = {0};
        UNROLL for (int i = 0; i < n; i++) {
            if (a[i] != 0 && a[i] == b[i])
                even += a[i] * x[i];
            else if (a[i] != 0)
                odd += a[i] * x[i];
        }
        to[p] = even + odd;
        to[p + 1] = even - odd;
    }
}

/* A^T p: powers of the points, which for a and -a are the same or opposite. */
INLINE void from_all_points(const float *output, int n, int m, const vec *p, vec *to)
{
    vec both[MOST / 2], apart[MOST / 2];
    UNROLL for (int i = 1; i < n - 1; i += 2) {
        both[i / 2] = p[i] + p[i + 1];
        apart[i / 2] = p[i] - p[i + 1];
    }
    UNROLL for (int row = 0; row < m; row++) {
        const float *a = output + row * n;
        vec sum = row == 0 ? p[0] : row == m - 1 ? p[n - 1] : (vec){0}; /* which count there only */
        UNROLL for (int i = 1; i < n - 1; i += 2)
            sum += a[i] * (row % 2 ? apart[i / 2] : both[i / 2]);
        to[row] = sum;
    }
}

/* The same for a tile of so many outputs. */
INLINE void at_points(struct form f, int outputs, const vec *x, vec *to)
{
    if (outputs == f.m) {
        at_all_points(f.data, f.n, x, to);
        return;
    }
    UNROLL for (int r = 1; r < f.m; r++)
        if (outputs == r || r == f.m - 1) {
            UNROLL for (int i = 0; i < f.n; i++)
                to[i] = i < points_of(f, r) ? dot(f.short_data + ((r - 1) * f.n + i) * f.n, points_of(f, r), x) : (vec){0};
            return;
        }
}

INLINE void from_points(struct form f, int outputs, const vec *p, vec *to)
{
    if (outputs == f.m) {
        from_all_points(f.output, f.n, f.m, p, to);
        return;
    }
    UNROLL for (int r = 1; r < f.m; r++)
        if (outputs == r || r == f.m - 1) {
            UNROLL for (int i = 0; i < f.m; i++)
                to[i] = i < r ? dot(f.short_output + ((r - 1) * f.m + i) * f.n, points_of(f, r), p) : (vec){0};
            return;
        }
}

#endif
