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
    struct blob x, y, z; /* read, written, and added before the activation (z.image is 0 where there is none) */
    const float *kernels, *bias, *slopes; /* 0 where there are none */
    int64_t images, in_h, in_w, in_channels, h, w, channels; /* of x and y */
    int64_t kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w;
    int64_t activation;
    int64_t block, group, shared, stretch; /* how the work is divided; each kind says it */
    int64_t common, scratch, scratch_apart; /* scratch of all threads, of the first, and between threads: floats */
    double parameters[4]; /* of the activation; the last one is the kernel's own */
};

/* How far a step is, or a part of one that must be done before the next begins: pieces of work that were taken, and done.
 *
 * It ends when all pieces are done, whoever did them: a thread that is put off while it has none holds nobody up. Others
 * may be steps ahead of it, and its scratch be in use: it may write only while it has a piece. */
struct phase {
    _Atomic int taken, done, first, last; /* `first` and `last` are how many were taken from either end */
};

struct worker {
    int number;
    float *arena;
    struct phase *phase; /* at work */
    int pieces; /* taken of it by this thread */
    int64_t begun; /* when the phase did, for this thread: nanoseconds */
};

void end_phase(struct worker *w, int pieces);

/* The next piece of `pieces` that nobody has taken; -1 when all are done, and then the next phase begins.
 *
 * One half of the threads takes pieces from the first on, the other from the last on, so that with two of them each goes
 * on, layer by layer, with the rows that are in its own cache. */
INLINE int64_t take(struct worker *w, int64_t pieces)
{
    struct phase *phase = w->phase;
    if (atomic_fetch_add_explicit(&phase->taken, 1, memory_order_relaxed) < pieces) {
        w->pieces++;
        if (w->number % 2)
            return pieces - 1 - atomic_fetch_add_explicit(&phase->last, 1, memory_order_relaxed);
        return atomic_fetch_add_explicit(&phase->first, 1, memory_order_relaxed);
    }
    end_phase(w, (int)pieces);
    return -1;
}

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
    if (activation == CLIP) { /* a NaN stays */
        vec low = (vec){0} + (float)s->parameters[0], high = (vec){0} + (float)s->parameters[1];
        value = choose(value < low, low, value);
        return choose(value > high, high, value);
    }
    if (activation == ELU)
        return choose(value < 0, exponential(value, -1) * (float)s->parameters[0], value);
    if (activation == SIGMOID)
        return sigmoid(value);
    if (activation == TANH)
        return tangent(value);
    if (activation == SWISH)
        return value * sigmoid(value * (float)s->parameters[0]);
    if (activation == MISH)
        return value * mish_gate(value);
    if (activation == HARD_SIGMOID || activation == HARD_SWISH) { /* a NaN stays */
        vec gate = value * (float)s->parameters[0] + (float)s->parameters[1], high = all_of((float)s->parameters[2]);
        gate = choose(gate < 0, (vec){0}, gate);
        gate = choose(gate > high, high, gate);
        if (activation == HARD_SIGMOID)
            return gate;
        return value * gate / high;
    }
    if (activation == ABSOLUTE)
        return size_of(value);
    return value;
}

/* True for an activation that `bend_of` gives. */
INLINE int is_bent(const struct step *s) { return s->activation <= CLIP; }

/* A step's activation, for the channels from c on. */
INLINE struct bend bend_of(const struct step *s, int64_t c)
{
    const float first = (float)s->parameters[0], second = (float)s->parameters[1];
    struct bend bend = {.floor = -__builtin_inff(), .ceiling = __builtin_inff()};
    bend.sloped = s->activation == LEAKY || s->activation == PRELU;
    if (s->activation == RELU)
        bend.floor = 0;
    else if (s->activation == CLIP)
        bend.floor = first, bend.ceiling = second;
    else if (s->activation == LEAKY)
        bend.slope = first;
    else if (s->activation == PRELU)
        bend.slopes = s->slopes + c;
    return bend;
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

/* Sums of a row to its outputs, which begin at `y`, from `channel` on; what lies at z, where that is not 0, is added. */
INLINE void put_row(int vectors, const struct step *s, const struct bend *bend, float *y, const float *z,
                    int64_t channel, const float *sums)
{
    if (!bend) {
        LOOP for (int64_t c = 0; c < least(vectors * LANES, s->channels - channel); c += LANES)
            store(y + channel + c, finished(s, load(sums + c), channel + c, z), s->channels - channel - c);
        return;
    }
    UNROLL for (int v = 0; v < vectors; v++) {
        const int64_t c = channel + v * LANES;
        vec value = load(sums + v * LANES) + load(s->bias + c);
        if (z)
            value += load(z + c);
        *(vec *)(y + c) = below(all_of(bend->ceiling), above(all_of(bend->floor), value));
    }
}

void product(const struct step *s, struct worker *w);
void sparse(const struct step *s, struct worker *w);
void amx(const struct step *s, struct worker *w);
void strassen_1(const struct step *s, struct worker *w);
void strassen_2(const struct step *s, struct worker *w);
void winograd_3(const struct step *s, struct worker *w);
void winograd_3_small(const struct step *s, struct worker *w);
void winograd_3_lean(const struct step *s, struct worker *w);
void winograd_5(const struct step *s, struct worker *w);
void winograd_7(const struct step *s, struct worker *w);
void winograd_7_pieces(const struct step *s, struct worker *w);
void depthwise(const struct step *s, struct worker *w);
void pool_max(const struct step *s, struct worker *w);
void pool_places(const struct step *s, struct worker *w);
void unpool(const struct step *s, struct worker *w);
void pixels(const struct step *s, struct worker *w);
void upsample(const struct step *s, struct worker *w);
void pool_average(const struct step *s, struct worker *w);
void normalize(const struct step *s, struct worker *w);
void softmax(const struct step *s, struct worker *w);
void largest(const struct step *s, struct worker *w);
void pointwise(const struct step *s, struct worker *w);
void move(const struct step *s, struct worker *w);
void normalize_within(const struct step *s, struct worker *w);
void unit(const struct step *s, struct worker *w);
void standardize(const struct step *s, struct worker *w);
void resample(const struct step *s, struct worker *w);
void recurrent(const struct step *s, struct worker *w);

#endif
