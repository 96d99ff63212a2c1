/* Depthwise convolution: kernels (kernel_h, kernel_w, channels up to a multiple of PANEL).
 *
 * A piece of work are `block` rows of outputs. They are made for a few channels at a time, `group` of them, so that the
 * rows of inputs which several rows of outputs read stay in the first cache.
 */

#include "windows.h"

#define AT_A_TIME 4 /* outputs of a row */
#define TAPS 3
#define HIDE(pointer) __asm__("" : "+r"(pointer)) /* or compilers keep all addresses, and have no register left */

static const float zeros[4096 + LANES]; /* what lies outside a blob; no layer has more channels */

INLINE int64_t across(const struct step *s) { return (s->channels + PANEL - 1) / PANEL * PANEL; }

/* The channels from ... until - 1 of one output, of a window of any kind. */
INLINE void one(const struct step *s, struct worker *w, struct windows at, int64_t x, int64_t from, int64_t until)
{
    int64_t left = x * s->stride_w - s->left, apart = across(s);
    struct range cols = inside(left, s->kernel_w, s->dilation_w, s->in_w);
    const float *window = place(w->arena, &s->x, at.image, at.top, left);
    float *y = place(w->arena, &s->y, at.image, at.y, x);
    const float *z = s->z.col ? place(w->arena, &s->z, at.image, at.y, x) : 0;
    LOOP for (int64_t c = from; c < until; c += LANES) {
        vec sum = {0};
        LOOP for (int64_t i = at.rows.from; i < at.rows.until; i++) {
            const float *row = window + i * s->dilation_h * s->x.row + c, *k = s->kernels + i * s->kernel_w * apart + c;
            LOOP for (int64_t j = cols.from; j < cols.until; j++)
                sum += load(row + j * s->dilation_w * s->x.col) * load(k + j * apart);
        }
        store(y + c, finished(s, sum, c, z), s->channels - c);
    }
}

/* Sums for AT_A_TIME outputs side by side with windows of 3x3, of channels first ... until - 1, to y; loads that outputs
 * share are made once. The inputs are at `from` + rows and columns, or, near an edge, at `pointers`. */
INLINE void sums(const struct step *s, const float *from, int64_t next_row, int64_t next, const float *const *pointers,
                 int stride, int64_t first, int64_t until, float *y, const float *z, int plain)
{
    const int columns = (AT_A_TIME - 1) * stride + TAPS;
    const int64_t apart = across(s), col = s->y.col, added = s->z.col, channels = s->channels;
    const float *kernels = s->kernels, *bias = s->bias;
    const int relu = s->activation == RELU;
    LOOP for (int64_t c = first; c < until; c += LANES) {
        vec sum[AT_A_TIME];
        HIDE(pointers);
        UNROLL for (int r = 0; r < AT_A_TIME; r++)
            sum[r] = plain ? load(bias + c) : (vec){0};
        UNROLL for (int i = 0; i < TAPS; i++) {
            vec k[TAPS];
            UNROLL for (int j = 0; j < TAPS; j++)
                k[j] = load(kernels + (i * TAPS + j) * apart + c);
            const float *at = from + i * next_row + c;
            UNROLL for (int j = 0; j < columns; j++, at += next) {
                HIDE(at);
                vec value = load(pointers ? pointers[i * columns + j] + c : at);
                UNROLL for (int r = 0; r < AT_A_TIME; r++)
                    if (j >= r * stride && j < r * stride + TAPS)
                        sum[r] += value * k[j - r * stride];
            }
        }
        UNROLL for (int r = 0; r < AT_A_TIME; r++) {
            if (plain)
                *(vec *)(y + r * col + c) = relu ? (vec)((mask)sum[r] & ~(sum[r] < 0)) : sum[r];
            else
                store(y + r * col + c, finished(s, sum[r], c, z ? z + r * added : 0), channels - c);
        }
    }
}

INLINE void several(const struct step *s, struct worker *w, struct windows at, int64_t x, int stride, int64_t first,
                    int64_t until)
{
    const int columns = (AT_A_TIME - 1) * stride + TAPS;
    int64_t left = x * stride - s->left;
    const float *from = place(w->arena, &s->x, at.image, at.top, left), *pointers[TAPS * ((AT_A_TIME - 1) * 2 + TAPS)];
    float *y = place(w->arena, &s->y, at.image, at.y, x);
    const float *z = s->z.col ? place(w->arena, &s->z, at.image, at.y, x) : 0;
    int plain = s->bias && !z && s->activation <= RELU && s->channels % LANES == 0;
    int whole = left >= 0 && left + columns <= s->in_w && at.rows.from == 0 && at.rows.until == TAPS;
    if (whole && plain) {
        sums(s, from, s->x.row, s->x.col, 0, stride, first, until, y, z, 1);
        return;
    }
    for (int i = 0; i < TAPS; i++)
        for (int j = 0; j < columns; j++) {
            int is_inside = i >= at.rows.from && i < at.rows.until && left + j >= 0 && left + j < s->in_w;
            pointers[i * columns + j] = is_inside ? from + i * s->x.row + j * s->x.col : zeros;
        }
    if (plain)
        sums(s, from, 0, 0, pointers, stride, first, until, y, z, 1);
    else
        sums(s, from, 0, 0, pointers, stride, first, until, y, z, 0);
}

INLINE void row(const struct step *s, struct worker *w, struct windows at, int stride, int64_t from, int64_t until)
{
    if (!stride) {
        for (int64_t x = 0; x < s->w; x++)
            one(s, w, at, x, from, until);
        return;
    }
    for (int64_t x = 0; x < s->w; x += AT_A_TIME) /* the last ones once more where they are not as many */
        several(s, w, at, least(x, s->w - AT_A_TIME), stride, from, until);
}

INLINE void rows(const struct step *s, struct worker *w, int stride)
{
    int64_t bands = (s->h + s->block - 1) / s->block;
    for (int64_t piece; (piece = take(w, s->images * bands)) >= 0;) {
        int64_t first = piece / bands * s->h + piece % bands * s->block;
        int64_t last = least(first + s->block, (piece / bands + 1) * s->h);
        for (int64_t c = 0; c < s->channels; c += s->group)
            for (int64_t i = first; i < last; i++)
                row(s, w, row_of(s, i), stride, c, least(c + s->group, s->channels));
    }
}

void depthwise(const struct step *s, struct worker *w)
{
    int three = s->kernel_w == TAPS && s->kernel_h == TAPS && s->dilation_w == 1 && s->dilation_h == 1;
    int many = s->w >= AT_A_TIME && s->channels <= 4096 && s->stride_w == s->stride_h;
    if (three && many && s->stride_w == 1)
        rows(s, w, 1);
    else if (three && many && s->stride_w == 2)
        rows(s, w, 2);
    else
        rows(s, w, 0);
}
