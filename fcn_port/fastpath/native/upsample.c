/* Deconvolution of each channel by itself, as scores are enlarged; only the outputs that are wanted.
 *
 * The first `top` rows and `left` columns of what it gives are left out, and so is what lies behind h x w. `group` floats lie
 * between two channels of y, so that planes can be written, too. Kernels are (channels, kernel_h, kernel_w), kernel_w a multiple
 * of stride_w, with a vector of any floats behind them. A piece of work are `block` rows of outputs of one channel.
 *
 * Output q * stride_w + p is the sum over j of input q - j times tap p + j * stride_w: for each q, a vector of neighbours p at
 * a time. A vector's end, beyond the last p, is overwritten by the next q's beginning.
 */

#include "step.h"

/* The outputs of one row, from those of input column `first` on, to `line`; `from` is the channel's first input. */
INLINE void enlarge(const struct step *s, const float *from, const float *kernels, float bias, int64_t y, int64_t first,
                    int64_t last, float *line)
{
    int64_t taps = s->kernel_w / s->stride_w, behind = y - s->kernel_h + s->stride_h;
    int64_t low = behind > 0 ? behind / s->stride_h : 0, high = least(y / s->stride_h, s->in_h - 1);
    for (int64_t q = first; q <= last; q++, line += s->stride_w)
        for (int64_t p = 0; p < s->stride_w; p += LANES) {
            vec sum = (vec){0} + bias;
            for (int64_t row = low; row <= high; row++) {
                const float *x = from + row * s->x.row, *tap = kernels + (y - row * s->stride_h) * s->kernel_w + p;
                for (int64_t j = most(q - s->in_w + 1, 0); j < least(taps, q + 1); j++)
                    sum = multiply_add(all_of(x[(q - j) * s->x.col]), load(tap + j * s->stride_w), sum);
            }
            *(vec *)(line + p) = sum;
        }
}

void upsample(const struct step *s, struct worker *w)
{
    int64_t blocks = (s->h + s->block - 1) / s->block, first = s->left / s->stride_w;
    int64_t last = (s->left + s->w - 1) / s->stride_w;
    float *line = scratch_of(s, w);
    const float *wanted = line + s->left - first * s->stride_w;
    for (int64_t piece; (piece = take(w, s->images * s->channels * blocks)) >= 0;) {
        int64_t image = piece / blocks / s->channels, c = piece / blocks % s->channels, lo = piece % blocks * s->block;
        const float *from = place(w->arena, &s->x, image, 0, 0) + c;
        const float *kernels = s->kernels + c * s->kernel_h * s->kernel_w;
        for (int64_t y = lo; y < least(lo + s->block, s->h); y++) {
            enlarge(s, from, kernels, s->bias ? s->bias[c] : 0, y + s->top, first, last, line);
            float *to = place(w->arena, &s->y, image, y, 0) + c * s->group;
            for (int64_t x = 0; x < s->w; x++)
                to[x * s->y.col] = wanted[x];
        }
    }
}
