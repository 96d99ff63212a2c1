/* Depthwise convolution: kernels (kernel_h, kernel_w, channels up to a multiple of PANEL).
 *
 * A piece of work are `block` rows of outputs and `group` channels, so few that the rows of inputs which several rows of
 * outputs read stay in the first cache.
 */

#include "windows.h"

#define TAPS 3

static const float zeros[LANES]; /* what lies outside a blob */

INLINE int64_t across(const struct step *s) { return (s->channels + PANEL - 1) / PANEL * PANEL; }

/* The channels from ... until - 1 of one output, of a window of any kind. */
INLINE void one(const struct step *s, struct worker *w, struct windows at, int64_t x, int64_t from, int64_t until)
{
    int64_t left = x * s->stride_w - s->left, apart = across(s);
    struct range cols = inside(left, s->kernel_w, s->dilation_w, s->in_w);
    const float *window = place(w->arena, &s->x, at.image, at.top, left);
    float *y = place(w->arena, &s->y, at.image, at.y, x);
    const float *z = s->z.image ? place(w->arena, &s->z, at.image, at.y, x) : 0;
    LOOP for (int64_t c = from; c < until; c += LANES) {
        vec sum = {0};
        LOOP for (int64_t i = at.rows.from; i < at.rows.until; i++) {
            const float *row = window + i * s->dilation_h * s->x.row + c, *k = s->kernels + i * s->kernel_w * apart + c;
            LOOP for (int64_t j = cols.from; j < cols.until; j++)
                sum = multiply_add(load(row + j * s->dilation_w * s->x.col), load(k + j * apart), sum);
        }
        store(y + c, finished(s, sum, c, z), s->channels - c);
    }
}

/* How a row's sums are stored: as whole vectors, within limits or with a slope below 0, or in any other way. */
enum { OTHERWISE, LIMITED, SLOPED };

/* One row of outputs of one vector of channels, with windows of 3x3 whose kernels are `k`: the three rows of inputs are
 * walked along once, and a column's products go to all outputs that read it. */
INLINE void walk(const struct step *s, struct worker *w, int64_t image, int64_t row, int stride, int64_t c,
                 const vec k[TAPS][TAPS], vec bias, int how, const struct bend *bend)
{
    const float *x[TAPS];
    int64_t next[TAPS];
    UNROLL for (int i = 0; i < TAPS; i++) {
        int64_t from = row * stride - s->top + i;
        int is_inside = from >= 0 && from < s->in_h;
        x[i] = is_inside ? place(w->arena, &s->x, image, from, -s->left) + c : zeros;
        next[i] = is_inside ? s->x.col : 0;
    }
    float *y = place(w->arena, &s->y, image, row, 0) + c;
    const float *z = s->z.image ? place(w->arena, &s->z, image, row, 0) : 0;
    const int64_t left = s->left, in_w = s->in_w, col = s->y.col, added = s->z.col, count = s->w;
    const vec floor = all_of(bend->floor), ceiling = all_of(bend->ceiling), slope = slope_of(bend, 0);
    vec sum = bias, next_sum = bias, fresh; /* of the output whose last column comes next, and of those behind it */
#define TAP(of, j) of = multiply_add(value, k[i][j], of)
#define COLUMN(number, work)                                                                                           \
    if ((uint64_t)((number)-left) < (uint64_t)in_w)                                                                    \
        UNROLL for (int i = 0; i < TAPS; i++) {                                                                        \
            vec value = load(x[i] + (number)*next[i]);                                                                 \
            work;                                                                                                      \
        }
    COLUMN(0, TAP(sum, 0))
    if (stride == 1)
        COLUMN(1, (TAP(sum, 1), TAP(next_sum, 0)))
    LOOP for (int64_t n = 0; n < count; n++) {
        fresh = bias;
        if (stride == 1) {
            COLUMN(n + 2, (TAP(sum, 2), TAP(next_sum, 1), TAP(fresh, 0)))
        } else {
            COLUMN(2 * n + 1, TAP(sum, 1))
            next_sum = bias;
            COLUMN(2 * n + 2, (TAP(sum, 2), TAP(next_sum, 0)))
        }
        if (how == LIMITED)
            *(vec *)y = below(ceiling, above(floor, sum));
        else if (how == SLOPED)
            *(vec *)y = sloping(sum, slope);
        else
            store(y, finished(s, sum, c, z), s->channels - c);
        y += col;
        z += added;
        sum = next_sum;
        next_sum = fresh;
    }
#undef COLUMN
#undef TAP
}

/* The same for the rows first ... last - 1 of an image and the channels from ... until - 1. */
INLINE void walk_rows(const struct step *s, struct worker *w, int64_t image, int64_t first, int64_t last, int stride,
                      int64_t from, int64_t until)
{
    const int plain = s->bias && !s->z.image && is_bent(s) && s->channels % LANES == 0;
    LOOP for (int64_t c = from; c < until; c += LANES) {
        const struct bend bend = plain ? bend_of(s, c) : (struct bend){0};
        vec k[TAPS][TAPS], bias = plain ? load(s->bias + c) : (vec){0};
        UNROLL for (int i = 0; i < TAPS; i++)
            UNROLL for (int j = 0; j < TAPS; j++)
                k[i][j] = load(s->kernels + (i * TAPS + j) * across(s) + c);
        LOOP for (int64_t y = first; y < last; y++) {
            if (!plain)
                walk(s, w, image, y, stride, c, k, bias, OTHERWISE, &bend);
            else if (bend.sloped)
                walk(s, w, image, y, stride, c, k, bias, SLOPED, &bend);
            else
                walk(s, w, image, y, stride, c, k, bias, LIMITED, &bend);
        }
    }
}

/* `stride`: of windows of 3x3, 0 for others. */
INLINE void rows(const struct step *s, struct worker *w, int stride)
{
    int64_t bands = (s->h + s->block - 1) / s->block, groups = (s->channels + s->group - 1) / s->group;
    for (int64_t piece; (piece = take(w, s->images * bands * groups)) >= 0;) {
        int64_t band = piece / groups, c = piece % groups * s->group, until = least(c + s->group, s->channels);
        int64_t image = band / bands, first = band % bands * s->block, last = least(first + s->block, s->h);
        if (stride)
            walk_rows(s, w, image, first, last, stride, c, until);
        else
            for (int64_t y = first; y < last; y++)
                for (int64_t x = 0; x < s->w; x++)
                    one(s, w, row_of(s, image * s->h + y), x, c, until);
    }
}

void depthwise(const struct step *s, struct worker *w)
{
    int three = s->kernel_w == TAPS && s->kernel_h == TAPS && s->dilation_w == 1 && s->dilation_h == 1;
    int64_t stride = s->stride_w == s->stride_h ? s->stride_w : 0;
    if (three && stride == 1)
        rows(s, w, 1);
    else if (three && stride == 2)
        rows(s, w, 2);
    else
        rows(s, w, 0);
}
