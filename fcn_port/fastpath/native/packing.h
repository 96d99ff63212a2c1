/* Weights a few features at a time, as the functions that pack them take them. */
#ifndef PACKING_H
#define PACKING_H

#include "together.h"
#include "vector.h"

/* The weights of a layer (features, length), what each feature is multiplied by unless `factors` is 0, how many features
 * sparse.c packs together, and room for each thread's turned ones. */
struct unpacked {
    const float *weights;
    const double *factors;
    int64_t features, length, wide;
    float *room;
};

#define SIDE 16 /* numbers of a row that are turned together: a line of the cache, which is read once */

/* The features first ... first + wide - 1 as columns, `to` (length, wide), zeros for what there is not; products with factors
 * are rounded once. */
static inline const float *turned(const struct unpacked *u, int64_t first, int64_t wide, float *to)
{
    for (int64_t column = 0; column < wide; column += SIDE)
        for (int64_t i = 0; i < u->length; i += SIDE) {
            int64_t from = first + column, side = least(wide - column, SIDE);
            int64_t rows = most(least(u->features - from, side), 0), count = least(u->length - i, SIDE);
            float square[SIDE][SIDE] = {{0}};
            for (int64_t r = 0; r < rows; r++) {
                const float *row = u->weights + (from + r) * u->length + i;
                double factor = u->factors ? u->factors[from + r] : 1;
                for (int64_t j = 0; j < count; j++)
                    square[j][r] = (float)(row[j] * factor);
            }
            for (int64_t j = 0; j < count; j++)
                for (int64_t r = 0; r < side; r++)
                    to[(i + j) * wide + column + r] = square[j][r];
        }
    return to;
}

/* The weights of a layer in `parts`, `wide` features each, which threads pack to `to`. */
struct packing {
    const struct unpacked *u;
    int64_t in_channels, wide, parts;
    int threads;
    float *to;
    void (*pack)(const struct packing *p, const float *turned, int64_t part);
};

static inline void pack_share(void *all, int number)
{
    const struct packing *p = all;
    float *room = p->u->room + number * p->u->length * p->wide;
    for (int64_t part = p->parts * number / p->threads; part < p->parts * (number + 1) / p->threads; part++)
        p->pack(p, turned(p->u, part * p->wide, p->wide, room), part);
}

INLINE void pack_parts(const struct unpacked *u, int64_t in_channels, int64_t wide, int threads, float *to,
                       void (*pack)(const struct packing *p, const float *turned, int64_t part))
{
    struct packing all = {u, in_channels, wide, (u->features + wide - 1) / wide, threads, to, pack};
    together(threads, pack_share, &all);
}

void pack_product(const struct unpacked *u, int64_t in_channels, int threads, float *to);

#endif
