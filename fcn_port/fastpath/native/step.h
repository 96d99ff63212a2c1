/* One step of a plan: a layer, with what was merged into it, over blobs that lie in one arena.
 *
 * Blobs are (images, h, w, channels) with channels side by side and any distance between columns, rows and images, so that
 * a step reads a part of a blob, or writes to its place in a larger one. program.py (../program/native.py) makes these.
 */
#ifndef STEP_H
#define STEP_H

#include <stdatomic.h>
#include <stdint.h>

#include "vector.h"

struct blob {
    int64_t at; /* floats from the beginning of the arena */
    int64_t image, row, col;
};

struct step {
    int64_t kind;
    struct blob x, y, z; /* read, written, and added before the activation (z.col is 0 where there is none) */
    const float *kernels, *bias, *slopes; /* 0 where there are none */
    int64_t images, in_h, in_w, in_channels, h, w, channels; /* of x and y */
    int64_t kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w;
    int64_t activation;
    int64_t block, group, shared; /* how the work is divided; each kind says it */
    int64_t common, scratch, scratch_apart; /* scratch of all threads, of the first, and between threads: floats */
    double parameters[3];
};

struct team {
    int threads;
    _Atomic int arrived, generation;
};

struct worker {
    struct team *team;
    int number;
    float *arena;
    _Atomic int *counter; /* the next piece of work of this step */
};

/* The next piece of work that nobody has taken. */
INLINE int64_t take(struct worker *w) { return atomic_fetch_add_explicit(w->counter, 1, memory_order_relaxed); }

void meet(struct team *team);

INLINE float *place(float *arena, const struct blob *b, int64_t image, int64_t row, int64_t col)
{
    return arena + b->at + image * b->image + row * b->row + col * b->col;
}

INLINE float *scratch_of(const struct step *s, const struct worker *w)
{
    return w->arena + s->scratch + w->number * s->scratch_apart;
}

INLINE vec activated(const struct step *s, vec value, int64_t c, int64_t activation)
{
    if (activation == RELU)
        return (vec)((mask)value & ~(value < 0)); /* a NaN stays */
    if (activation == LEAKY)
        return choose(value < 0, value * (float)s->parameters[0], value);
    if (activation == PRELU)
        return choose(value < 0, value * load(s->slopes + c), value);
    return value;
}

/* A sum for the channels from c on at a place, with bias, addend and activation. */
INLINE vec finished(const struct step *s, vec value, int64_t c, const float *z)
{
    if (s->bias)
        value += load(s->bias + c);
    if (z)
        value += load(z + c);
    return activated(s, value, c, s->activation);
}

void product(const struct step *s, struct worker *w);
void winograd_3(const struct step *s, struct worker *w);
void winograd_5(const struct step *s, struct worker *w);
void winograd_7(const struct step *s, struct worker *w);
void depthwise(const struct step *s, struct worker *w);
void pool_max(const struct step *s, struct worker *w);
void pool_average(const struct step *s, struct worker *w);
void normalize(const struct step *s, struct worker *w);
void pointwise(const struct step *s, struct worker *w);

#endif
