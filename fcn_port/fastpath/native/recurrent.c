/* Layers over time: each step's gates are those that its row says plus a product of all units' outputs a step before.
 *
 * x (steps, 1, streams, gates * units) has the rows, z (steps, 1, streams, 1) what a stream keeps of the step before (z.image is
 * 0 where it keeps all; `shared`: all or nothing), y (steps, 1, streams, units) are the outputs. Gates are i, f, o and g of an
 * LSTM, or one whose tanh is the output (`group`). `kernels`: for each vector of units, and each unit that it reads, a vector for
 * each gate. The cells (streams, units in whole vectors) lie in the scratch of all threads.
 *
 * A step is a phase, or all of them are one piece of a single one (`block` 0), where threads would rather wait than work.
 */
#include "step.h"

enum { STREAMS = 4 }; /* that read a vector of kernels together */

struct recurrence {
    const struct step *s;
    float *arena, *cells;
    int64_t time;
};

INLINE float kept(const struct recurrence *r, int64_t stream)
{
    if (!r->s->z.image)
        return 1;
    float found = *place(r->arena, &r->s->z, r->time, 0, stream);
    return r->s->shared ? found != 0 : found;
}

/* The outputs of a vector of units, from `first` on, for `streams` streams. */
INLINE void units_of(const struct recurrence *r, int64_t first, int64_t stream, int streams, int gates)
{
    const struct step *s = r->s;
    vec sums[STREAMS][4];
    const float *before[STREAMS];
    float keeps[STREAMS];
    UNROLL for (int n = 0; n < streams; n++) {
        const float *row = place(r->arena, &s->x, r->time, 0, stream + n) + first;
        before[n] = r->time ? place(r->arena, &s->y, r->time - 1, 0, stream + n) : 0;
        keeps[n] = kept(r, stream + n);
        UNROLL for (int g = 0; g < gates; g++)
            sums[n][g] = load(row + g * s->channels) + keeps[n] * 0; /* what is no number stays none, of zeros too */
    }
    const float *kernels = s->kernels + first * gates * s->channels;
    for (int64_t c = 0; c < s->channels && r->time; c++, kernels += gates * LANES)
        UNROLL for (int n = 0; n < streams; n++)
            UNROLL for (int g = 0; g < gates; g++)
                sums[n][g] = multiply_add(all_of(before[n][c] * keeps[n]), load(kernels + g * LANES), sums[n][g]);
    UNROLL for (int n = 0; n < streams; n++) {
        float *y = place(r->arena, &s->y, r->time, 0, stream + n) + first;
        float *cells = r->cells + (stream + n) * ((s->channels + LANES - 1) / LANES * LANES) + first;
        vec output;
        if (gates == 1)
            output = tangent(sums[n][0]);
        else {
            vec former = {0};
            if (r->time)
                former = load(cells);
            vec cell = sigmoid(sums[n][0]) * tangent(sums[n][3]) + keeps[n] * sigmoid(sums[n][1]) * former;
            *(vec *)cells = cell;
            output = sigmoid(sums[n][2]) * tangent(cell);
        }
        store(y, output, s->channels - first);
    }
}

INLINE void units_of_streams(const struct recurrence *r, int64_t first, int gates)
{
    int64_t n = 0;
    for (; n + STREAMS <= r->s->w; n += STREAMS)
        units_of(r, first, n, STREAMS, gates);
    for (; n < r->s->w; n++)
        units_of(r, first, n, 1, gates);
}

static void units(const struct recurrence *r, int64_t first)
{
    if (r->s->group == 4)
        units_of_streams(r, first, 4);
    else
        units_of_streams(r, first, 1);
}

void recurrent(const struct step *s, struct worker *w)
{
    struct recurrence r = {s, w->arena, w->arena + s->common, 0};
    if (!s->block) {
        while (take(w, 1) >= 0)
            for (r.time = 0; r.time < s->images; r.time++)
                for (int64_t c = 0; c < s->channels; c += LANES)
                    units(&r, c);
        return;
    }
    for (r.time = 0; r.time < s->images; r.time++)
        for (int64_t piece; (piece = take(w, (s->channels + LANES - 1) / LANES)) >= 0;)
            units(&r, piece * LANES);
}
