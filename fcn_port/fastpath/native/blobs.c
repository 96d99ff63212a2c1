/* Layers without products over channels: depthwise convolution, pooling, normalization, sums and activations. */

#include <math.h>

#include "step.h"

struct range {
    int64_t from, until;
};

/* The taps of a window that begins at `start` which lie in 0 ... length - 1. */
INLINE struct range inside(int64_t start, int64_t taps, int64_t dilation, int64_t length)
{
    int64_t from = start < 0 ? (-start + dilation - 1) / dilation : 0;
    int64_t until = start >= length ? 0 : (length - start + dilation - 1) / dilation;
    return (struct range){from, least(until, taps)};
}

/* The windows of one output row. */
struct windows {
    int64_t image, y, top;
    struct range rows;
};

INLINE struct windows row_of(const struct step *s, int64_t piece)
{
    int64_t image = piece / s->h, y = piece % s->h, top = y * s->stride_h - s->top;
    return (struct windows){image, y, top, inside(top, s->kernel_h, s->dilation_h, s->in_h)};
}

#define AT_A_TIME 4 /* outputs of a row */

/* `count` outputs side by side, whose windows have the columns cols; loads that they share are made once. */
INLINE void depthwise_some(const struct step *s, struct worker *w, struct windows at, int64_t x, int count,
                           struct range cols, int taps, int stride)
{
    int64_t apart = (s->channels + PANEL - 1) / PANEL * PANEL;
    const float *from = place(w->arena, &s->x, at.image, at.top, x * s->stride_w - s->left);
    float *y = place(w->arena, &s->y, at.image, at.y, x);
    const float *z = s->z.col ? place(w->arena, &s->z, at.image, at.y, x) : 0;
    int64_t step = stride ? stride : s->stride_w;
    LOOP for (int64_t c = 0; c < s->channels; c += LANES) {
        vec sum[AT_A_TIME];
        UNROLL for (int r = 0; r < count; r++)
            sum[r] = (vec){0};
        LOOP for (int64_t i = at.rows.from; i < at.rows.until; i++) {
            const float *row = from + i * s->dilation_h * s->x.row + c, *k = s->kernels + i * s->kernel_w * apart + c;
            if (taps) {
                UNROLL for (int j = 0; j < taps; j++)
                    UNROLL for (int r = 0; r < count; r++)
                        sum[r] += load(row + (r * step + j) * s->x.col) * load(k + j * apart);
                continue;
            }
            LOOP for (int64_t j = cols.from; j < cols.until; j++)
                UNROLL for (int r = 0; r < count; r++)
                    sum[r] += load(row + (r * step + j * s->dilation_w) * s->x.col) * load(k + j * apart);
        }
        UNROLL for (int r = 0; r < count; r++)
            store(y + r * s->y.col + c, finished(s, sum[r], c, z ? z + r * s->z.col : 0), s->channels - c);
    }
}

/* kernels: (kernel_h, kernel_w, channels up to a multiple of PANEL). */
void depthwise(const struct step *s, struct worker *w)
{
    int three = s->kernel_w == 3 && s->dilation_w == 1;
    for (int64_t piece; (piece = take(w)) < s->images * s->h;) {
        struct windows at = row_of(s, piece);
        for (int64_t x = 0; x < s->w;) {
            int64_t left = x * s->stride_w - s->left;
            int64_t right = left + (AT_A_TIME - 1) * s->stride_w + (s->kernel_w - 1) * s->dilation_w;
            struct range cols = inside(left, s->kernel_w, s->dilation_w, s->in_w);
            if (left < 0 || right >= s->in_w || x + AT_A_TIME > s->w) {
                depthwise_some(s, w, at, x++, 1, cols, 0, 0);
                continue;
            }
            if (three && s->stride_w == 1)
                depthwise_some(s, w, at, x, AT_A_TIME, cols, 3, 1);
            else if (three && s->stride_w == 2)
                depthwise_some(s, w, at, x, AT_A_TIME, cols, 3, 2);
            else
                depthwise_some(s, w, at, x, AT_A_TIME, cols, 0, 0);
            x += AT_A_TIME;
        }
    }
}

void pool_max(const struct step *s, struct worker *w)
{
    for (int64_t piece; (piece = take(w)) < s->images * s->h;) {
        struct windows at = row_of(s, piece);
        for (int64_t x = 0; x < s->w; x++) {
            int64_t left = x * s->stride_w - s->left;
            struct range cols = inside(left, s->kernel_w, s->dilation_w, s->in_w);
            const float *from = place(w->arena, &s->x, at.image, at.top, left);
            float *y = place(w->arena, &s->y, at.image, at.y, x);
            LOOP for (int64_t c = 0; c < s->channels; c += LANES) {
                vec greatest = (vec){0} - INFINITY;
                LOOP for (int64_t i = at.rows.from; i < at.rows.until; i++)
                    LOOP for (int64_t j = cols.from; j < cols.until; j++) {
                        vec value = load(from + i * s->dilation_h * s->x.row + j * s->dilation_w * s->x.col + c);
                        mask stays = (value <= greatest) | (greatest != greatest); /* a NaN wins */
                        greatest = choose(stays, greatest, value);
                    }
                store(y + c, finished(s, greatest, c, 0), s->channels - c);
            }
        }
    }
}

/* Divided by what of a window lies in the padded blob, as pooling_layer.cpp does. */
void pool_average(const struct step *s, struct worker *w)
{
    for (int64_t piece; (piece = take(w)) < s->images * s->h;) {
        struct windows at = row_of(s, piece);
        int64_t rows = least(at.top + s->kernel_h, s->in_h + s->top) - at.top;
        for (int64_t x = 0; x < s->w; x++) {
            int64_t left = x * s->stride_w - s->left;
            struct range cols = inside(left, s->kernel_w, 1, s->in_w);
            float count = (float)(rows * (least(left + s->kernel_w, s->in_w + s->left) - left));
            const float *from = place(w->arena, &s->x, at.image, at.top, left);
            float *y = place(w->arena, &s->y, at.image, at.y, x);
            LOOP for (int64_t c = 0; c < s->channels; c += LANES) {
                vec sum = {0};
                LOOP for (int64_t i = at.rows.from; i < at.rows.until; i++) {
                    vec of_row = {0};
                    LOOP for (int64_t j = cols.from; j < cols.until; j++)
                        of_row += load(from + i * s->x.row + j * s->x.col + c);
                    sum += of_row;
                }
                store(y + c, finished(s, sum / count, c, 0), s->channels - c);
            }
        }
    }
}

/* x / (k + alpha / size * sum of neighbours' squares)^(3/4); parameters: alpha / size, k. kernel_w is the size. */
void normalize(const struct step *s, struct worker *w)
{
    int64_t reach = s->kernel_w / 2, n = s->channels;
    float alpha = (float)s->parameters[0], k = (float)s->parameters[1];
    float *squares = scratch_of(s, w) + reach;
    for (int64_t i = 1; i <= reach; i++)
        squares[-i] = 0;
    for (int64_t piece; (piece = take(w)) < s->images * s->h;)
        for (int64_t x = 0; x < s->w; x++) {
            const float *from = place(w->arena, &s->x, piece / s->h, piece % s->h, x);
            float *y = place(w->arena, &s->y, piece / s->h, piece % s->h, x);
            for (int64_t c = 0; c < n; c++)
                squares[c] = from[c] * from[c];
            for (int64_t i = 0; i < reach; i++)
                squares[n + i] = 0;
            for (int64_t c = 0; c < n; c++) {
                float sum = 0;
                for (int64_t i = -reach; i <= reach; i++)
                    sum += squares[c + i];
                float root = sqrtf(k + alpha * sum);
                y[c] = from[c] / (root * sqrtf(root));
            }
        }
}

/* activation(x * kernels[channel] + bias[channel] + z); kernels may be 0. */
void pointwise(const struct step *s, struct worker *w)
{
    for (int64_t piece; (piece = take(w)) < s->images * s->h;)
        for (int64_t x = 0; x < s->w; x++) {
            const float *from = place(w->arena, &s->x, piece / s->h, piece % s->h, x);
            const float *z = s->z.col ? place(w->arena, &s->z, piece / s->h, piece % s->h, x) : 0;
            float *y = place(w->arena, &s->y, piece / s->h, piece % s->h, x);
            LOOP for (int64_t c = 0; c < s->channels; c += LANES) {
                vec value = load(from + c);
                if (s->kernels)
                    value *= load(s->kernels + c);
                store(y + c, finished(s, value, c, z), s->channels - c);
            }
        }
}
