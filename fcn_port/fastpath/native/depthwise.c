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

/* Rows of outputs next to each other that are walked along together, where windows have a stride of 1 and registers suffice:
 * two read four rows of inputs, where each by itself reads three. */
#if defined __AVX512F__ || defined __aarch64__
#define TOGETHER 2
#else
#define TOGETHER 1
#endif
#define DEEP (TAPS + TOGETHER - 1) /* rows of inputs */
#define NARROW 64 /* columns of outputs, up to which what is fetched ahead has room in the first cache */

/* The rows of inputs that some rows of outputs read, of one vector of channels, and where the next walk's begin. */
struct inputs {
    const float *x[DEEP], *ahead;
    int64_t next[DEEP], ahead_row, ahead_col;
};

INLINE struct inputs inputs_of(const struct step *s, float *arena, int64_t image, int64_t row, int deep, int64_t c)
{
    struct inputs in = {.ahead = zeros};
    UNROLL for (int i = 0; i < deep; i++) {
        int64_t from = row - s->top + i;
        int is_inside = from >= 0 && from < s->in_h;
        in.x[i] = is_inside ? place(arena, &s->x, image, from, -s->left) + c : zeros;
        in.next[i] = is_inside ? s->x.col : 0;
    }
    return in;
}

/* How a row's sums are stored: as whole vectors, within limits or with a slope below 0, or in any other way. */
enum { OTHERWISE, LIMITED, SLOPED };

INLINE void put(const struct step *s, vec sum, int64_t c, float *y, const float *z, int how, const struct bend *bend)
{
    if (how == LIMITED)
        *(vec *)y = below(all_of(bend->ceiling), above(all_of(bend->floor), sum));
    else if (how == SLOPED)
        *(vec *)y = sloping(sum, slope_of(bend, 0));
    else
        store(y, finished(s, sum, c, z), s->channels - c);
}

/* `count` rows of outputs of one vector of channels, with windows of 3x3 whose kernels are `k`: the rows of inputs are
 * walked along once, and a column's products go to all outputs that read it. */
INLINE void walk(const struct step *s, float *arena, struct inputs in, int64_t image, int64_t row, int count, int stride,
                 int64_t c, const vec k[TAPS][TAPS], vec bias, int how, const struct bend *bend)
{
    float *y = place(arena, &s->y, image, row, 0) + c;
    const float *z = s->z.image ? place(arena, &s->z, image, row, 0) : 0;
    const int64_t left = s->left, in_w = s->in_w, col = s->y.col, added = s->z.col, width = s->w;
    vec sum[TOGETHER], next_sum[TOGETHER], fresh[TOGETHER]; /* of the outputs whose last column comes next, and behind them */
    UNROLL for (int r = 0; r < count; r++)
        sum[r] = next_sum[r] = bias;
#define TAP(of, j) of[r] = multiply_add(value, k[i - r][j], of[r])
#define COLUMN(number, work)                                                                                           \
    if ((uint64_t)((number)-left) < (uint64_t)in_w)                                                                    \
        UNROLL for (int i = 0; i < TAPS + count - 1; i++) {                                                            \
            const vec value = held(load(in.x[i] + (number)*in.next[i]));                                               \
            if (i < count * stride)                                                                                    \
                __builtin_prefetch(in.ahead + i * in.ahead_row + ((number)-left) * in.ahead_col, 0, 3);                \
            UNROLL for (int r = 0; r < count; r++)                                                                     \
                if (r <= i && i < r + TAPS) {                                                                          \
                    work;                                                                                              \
                }                                                                                                      \
        }
    COLUMN(0, TAP(sum, 0))
    if (stride == 1)
        COLUMN(1, (TAP(sum, 1), TAP(next_sum, 0)))
    LOOP for (int64_t n = 0; n < width; n++, y += col, z += added) {
        UNROLL for (int r = 0; r < count; r++)
            fresh[r] = bias;
        if (stride == 1) {
            COLUMN(n + 2, (TAP(sum, 2), TAP(next_sum, 1), TAP(fresh, 0)))
        } else {
            COLUMN(2 * n + 1, TAP(sum, 1))
            UNROLL for (int r = 0; r < count; r++)
                next_sum[r] = bias;
            COLUMN(2 * n + 2, (TAP(sum, 2), TAP(next_sum, 0)))
        }
        UNROLL for (int r = 0; r < count; r++) {
            put(s, sum[r], c, y + r * s->y.row, z + r * s->z.row, how, bend);
            sum[r] = next_sum[r];
            next_sum[r] = fresh[r];
        }
    }
#undef COLUMN
#undef TAP
}

/* The same for the rows first ... last - 1 of an image and one vector of channels. */
INLINE void walk_rows(const struct step *s, float *arena, int64_t image, int64_t first, int64_t last, int stride,
                      int64_t c, const vec k[TAPS][TAPS], vec bias, int how, const struct bend *bend)
{
    for (int64_t y = first, count; y < last; y += count) {
        count = stride == 1 && last - y >= TOGETHER ? TOGETHER : 1;
        struct inputs in = inputs_of(s, arena, image, y * stride, TAPS + (int)count - 1, c);
        if (s->w <= NARROW) { /* what the next walk reads and this one does not, or the first one of the next channels */
            int64_t next = y + count < last ? (y + count) * stride - s->top + TAPS - stride : first * stride;
            in.ahead = place(arena, &s->x, image, next, 0) + (y + count < last ? c : c + LANES);
            in.ahead_row = s->x.row, in.ahead_col = s->x.col;
        }
        if (count == TOGETHER)
            walk(s, arena, in, image, y, TOGETHER, stride, c, k, bias, how, bend);
        else
            walk(s, arena, in, image, y, 1, stride, c, k, bias, how, bend);
    }
}

/* The same for the channels from ... until - 1. */
INLINE void walk_channels(const struct step *s, float *arena, int64_t image, int64_t first, int64_t last, int stride,
                          int64_t from, int64_t until)
{
    const int plain = s->bias && !s->z.image && is_bent(s) && s->channels % LANES == 0;
    LOOP for (int64_t c = from; c < until; c += LANES) {
        const struct bend bend = plain ? bend_of(s, c) : (struct bend){0};
        vec k[TAPS][TAPS], bias = plain ? load(s->bias + c) : (vec){0};
        UNROLL for (int i = 0; i < TAPS; i++)
            UNROLL for (int j = 0; j < TAPS; j++)
                k[i][j] = load(s->kernels + (i * TAPS + j) * across(s) + c);
        if (!plain)
            walk_rows(s, arena, image, first, last, stride, c, k, bias, OTHERWISE, &bend);
        else if (bend.sloped)
            walk_rows(s, arena, image, first, last, stride, c, k, bias, SLOPED, &bend);
        else
            walk_rows(s, arena, image, first, last, stride, c, k, bias, LIMITED, &bend);
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
            walk_channels(s, w->arena, image, first, last, stride, c, until);
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
