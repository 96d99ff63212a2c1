/* Layers without products over channels: pooling, softmax, the greatest channel, sums, activations and moves. */

#include <math.h>
#include <string.h>

#include "windows.h"

/* The greatest of column `col` of some rows, for a vector of channels; `from` is column 0 of the first. */
INLINE vec of_column(const struct step *s, const float *from, int64_t rows, int64_t col)
{
    if (col < 0 || col >= s->in_w)
        return (vec){0} - INFINITY;
    from += col * s->x.col;
    vec greatest = load(from);
    LOOP for (int64_t i = 1; i < rows; i++)
        greatest = greater_of(greatest, load(from + i * s->x.row));
    return greatest;
}

/* One row of outputs, of windows two or three columns wide that are `stride` apart: a column that two of them read is looked
 * through once. */
INLINE void walk_max(const struct step *s, struct worker *w, const struct windows *at, int64_t kernel, int64_t stride)
{
    const int64_t rows = at->rows.until - at->rows.from;
    LOOP for (int64_t c = 0; c < s->channels; c += LANES) {
        const float *from = place(w->arena, &s->x, at->image, at->top + at->rows.from, 0) + c;
        float *y = place(w->arena, &s->y, at->image, at->y, 0) + c;
        vec last[2] = {of_column(s, from, rows, -s->left)}; /* columns that the next window reads, too */
        if (stride == 1)
            last[1] = of_column(s, from, rows, 1 - s->left);
        LOOP for (int64_t x = 0; x < s->w; x++) {
            const int64_t left = x * stride - s->left;
            vec middle = stride == 1 ? last[1] : of_column(s, from, rows, left + 1), greatest = greater_of(last[0], middle);
            vec right = kernel == 3 || x + 1 < s->w ? of_column(s, from, rows, left + 2) : middle;
            if (kernel == 3)
                greatest = greater_of(greatest, right);
            last[0] = stride == 1 ? middle : right;
            last[1] = right;
            store(y + x * s->y.col, finished(s, greatest, c, 0), s->channels - c);
        }
    }
}

/* The greatest of a window, and of z where there is one. */
void pool_max(const struct step *s, struct worker *w)
{
    const int is_walked = s->dilation_w == 1 && s->dilation_h == 1 && !s->z.image && s->stride_w <= 2;
    for (int64_t piece; (piece = take(w, s->images * s->h)) >= 0;) {
        struct windows at = row_of(s, piece);
        if (is_walked && at.rows.from < at.rows.until && (s->kernel_w == 3 || (s->kernel_w == 2 && s->stride_w == 2))) {
            if (s->kernel_w == 2)
                walk_max(s, w, &at, 2, 2);
            else if (s->stride_w == 1)
                walk_max(s, w, &at, 3, 1);
            else
                walk_max(s, w, &at, 3, 2);
            continue;
        }
        for (int64_t x = 0; x < s->w; x++) {
            int64_t left = x * s->stride_w - s->left;
            struct range cols = inside(left, s->kernel_w, s->dilation_w, s->in_w);
            const float *from = place(w->arena, &s->x, at.image, at.top, left);
            float *y = place(w->arena, &s->y, at.image, at.y, x);
            const float *z = s->z.image ? place(w->arena, &s->z, at.image, at.y, x) : 0;
            LOOP for (int64_t c = 0; c < s->channels; c += LANES) {
                vec greatest = (vec){0} - INFINITY;
                if (z)
                    greatest = load(z + c);
                LOOP for (int64_t i = at.rows.from; i < at.rows.until; i++)
                    LOOP for (int64_t j = cols.from; j < cols.until; j++)
                        greatest = greater_of(greatest, load(from + i * s->dilation_h * s->x.row + j * s->dilation_w * s->x.col + c));
                store(y + c, finished(s, greatest, c, 0), s->channels - c);
            }
        }
    }
}

/* Divided by what of a window lies in the blob and its padding, as pooling_layer.cpp does; below and behind the blob that
 * is `group` rows and `block` columns. `shared`: by what lies in the blob. */
void pool_average(const struct step *s, struct worker *w)
{
    for (int64_t piece; (piece = take(w, s->images * s->h)) >= 0;) {
        struct windows at = row_of(s, piece);
        int64_t rows = s->shared ? at.rows.until - at.rows.from : least(s->kernel_h, s->in_h + s->group - at.top);
        for (int64_t x = 0; x < s->w; x++) {
            int64_t left = x * s->stride_w - s->left;
            struct range cols = inside(left, s->kernel_w, 1, s->in_w);
            int64_t across = s->shared ? cols.until - cols.from : least(s->kernel_w, s->in_w + s->block - left);
            float count = (float)(rows * across);
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

/* e^x as a share of its sum over channels. */
void softmax(const struct step *s, struct worker *w)
{
    float *powers = scratch_of(s, w);
    const int64_t n = s->channels;
    for (int64_t piece; (piece = take(w, s->images * s->h)) >= 0;)
        for (int64_t x = 0; x < s->w; x++) {
            const float *from = place(w->arena, &s->x, piece / s->h, piece % s->h, x);
            float *y = place(w->arena, &s->y, piece / s->h, piece % s->h, x);
            if (n <= LANES) {
                const vec only = first_of(load(from), n, -INFINITY);
                const vec power = first_of(exponential(only - greatest_lane(only), 0), n, 0);
                *(vec *)powers = power;
                store(y, power * (float)(1 / sum_of_all(powers, n)), n);
                continue;
            }
            vec all = (vec){0} - INFINITY;
            LOOP for (int64_t c = 0; c < n; c += LANES)
                all = greater_of(all, first_of(load(from + c), n - c, -INFINITY));
            const float greatest = greatest_lane(all);
            LOOP for (int64_t c = 0; c < n; c += LANES) {
                vec power = exponential(load(from + c) - greatest, 0);
                *(vec *)(powers + c) = first_of(power, n - c, 0);
            }
            const vec share = all_of((float)(1 / sum_of_all(powers, n)));
            LOOP for (int64_t c = 0; c < n; c += LANES)
                store(y + c, load(powers + c) * share, n - c);
        }
}

/* The last channel of those that are the greatest, or, `shared`, its value; the last NaN where there is one. */
void largest(const struct step *s, struct worker *w)
{
    const int64_t n = s->in_channels;
    for (int64_t piece; (piece = take(w, s->images * s->h)) >= 0;)
        for (int64_t x = 0; x < s->w; x++) {
            const float *from = place(w->arena, &s->x, piece / s->h, piece % s->h, x);
            vec all = (vec){0} - INFINITY;
            LOOP for (int64_t c = 0; c < n; c += LANES)
                all = greater_of(all, first_of(load(from + c), n - c, -INFINITY));
            const float greatest = greatest_lane(all);
            int64_t last = n - 1;
            while (last > 0 && (greatest == greatest ? from[last] != greatest : from[last] == from[last]))
                last--;
            *place(w->arena, &s->y, piece / s->h, piece % s->h, x) = s->shared ? from[last] : (float)last;
        }
}

/* `shared`: what becomes of x and z. GREATER is x where it is the greater one, else z: Eltwise's, as eltwise_layer.cpp has it;
 * of a MAXIMUM no NaN is lost. */
enum { SUM, PRODUCT, MAXIMUM, GREATER };

/* activation(x * kernels[channel] + bias[channel] + z); kernels may be 0. */
void pointwise(const struct step *s, struct worker *w)
{
    for (int64_t piece; (piece = take(w, s->images * s->h)) >= 0;)
        for (int64_t x = 0; x < s->w; x++) {
            const float *from = place(w->arena, &s->x, piece / s->h, piece % s->h, x);
            const float *z = s->z.image ? place(w->arena, &s->z, piece / s->h, piece % s->h, x) : 0;
            float *y = place(w->arena, &s->y, piece / s->h, piece % s->h, x);
            LOOP for (int64_t c = 0; c < s->channels; c += LANES) {
                vec value = load(from + c);
                if (s->kernels)
                    value *= load(s->kernels + c);
                if (s->shared == SUM) {
                    store(y + c, finished(s, value, c, z), s->channels - c);
                    continue;
                }
                vec other = load(z + c), greater = choose(value > other, value, other);
                if (s->shared == PRODUCT)
                    value *= other;
                else
                    value = s->shared == GREATER ? greater : choose(value == value, greater, value);
                store(y + c, activated(s, value, c, s->activation), s->channels - c);
            }
        }
}

/* `count` values of three planes, which are so far apart, as pixels side by side. */
void interleave(const float *planes, int64_t apart, int64_t count, float *to_pixels)
{
    const float *restrict a = planes, *restrict b = planes + apart, *restrict c = planes + 2 * apart;
    float *restrict to = to_pixels;
    for (int64_t i = 0; i < count; i++) {
        to[3 * i] = a[i];
        to[3 * i + 1] = b[i];
        to[3 * i + 2] = c[i];
    }
}

/* An input of three channels, whose planes lie one behind the other at x. A piece of work are `block` rows. */
void pixels(const struct step *s, struct worker *w)
{
    int64_t bands = (s->h + s->block - 1) / s->block;
    for (int64_t piece; (piece = take(w, s->images * bands)) >= 0;) {
        int64_t image = piece / bands, first = piece % bands * s->block, last = least(first + s->block, s->h);
        const float *planes = w->arena + s->x.at + image * s->x.image;
        interleave(planes + first * s->w, s->h * s->w, (last - first) * s->w, place(w->arena, &s->y, image, first, 0));
    }
}

enum { NEAR = 64 }; /* lines of memory that lie in a first cache together with as many of somebody else */

/* y[n, row, col, c] = x[the four distances' sum]: `kernels` are the distances, int32, of images, rows, columns and `channels`
 * places that are `group` floats apart. A piece of work are `block` rows, gone through some columns at a time: what lies
 * side by side in x may belong to neighbouring rows of y. */
void move(const struct step *s, struct worker *w)
{
    const int32_t *images = (const int32_t *)s->kernels, *rows = images + s->images, *cols = rows + s->h;
    const int32_t *places = cols + s->w;
    const int64_t count = s->channels, apart = s->group, bands = (s->h + s->block - 1) / s->block;
    const int64_t together = most(NEAR / count, 1);
    int in_order = apart == 1;
    for (int64_t c = 0; c < count; c++)
        in_order &= places[c] == places[0] + c;
    for (int64_t piece; (piece = take(w, s->images * bands)) >= 0;) {
        int64_t image = piece / bands, first = piece % bands * s->block, last = least(first + s->block, s->h);
        const float *whole = w->arena + s->x.at + images[image];
        for (int64_t left = 0; left < s->w; left += together)
            for (int64_t row = first; row < last; row++)
                for (int64_t x = left; x < least(left + together, s->w); x++) {
                    const float *from = whole + rows[row] + cols[x];
                    float *y = place(w->arena, &s->y, image, row, x);
                    if (in_order)
                        memcpy(y, from + places[0], (size_t)count * sizeof *y);
                    else
                        for (int64_t c = 0; c < count; c++)
                            y[c * apart] = from[places[c]];
                }
    }
}

/* The mixture of two pixels' channels, by the share of the second one; `shared`: by their difference. */
INLINE vec mixture(const struct step *s, vec first, vec second, float share)
{
    if (s->shared)
        return first + (second - first) * share;
    return first * (1 - share) + second * share;
}

/* Each pixel of y is a mixture of four of x. `kernels` are the two rows of x for each row of y, int32, the two columns for
 * each column, and then the shares of the second rows and of the second columns. */
void resample(const struct step *s, struct worker *w)
{
    const int32_t *rows = (const int32_t *)s->kernels, *cols = rows + 2 * s->h;
    const float *down = s->kernels + 2 * (s->h + s->w), *across = down + s->h;
    for (int64_t piece; (piece = take(w, s->images * s->h)) >= 0;) {
        int64_t image = piece / s->h, y = piece % s->h;
        const float *above = place(w->arena, &s->x, image, rows[y], 0);
        const float *below = place(w->arena, &s->x, image, rows[s->h + y], 0);
        for (int64_t x = 0; x < s->w; x++) {
            int64_t left = cols[x] * s->x.col, right = cols[s->w + x] * s->x.col;
            float *to = place(w->arena, &s->y, image, y, x);
            LOOP for (int64_t c = 0; c < s->channels; c += LANES) {
                vec first = mixture(s, load(above + left + c), load(above + right + c), across[x]);
                vec second = mixture(s, load(below + left + c), load(below + right + c), across[x]);
                store(to + c, finished(s, mixture(s, first, second, down[y]), c, 0), s->channels - c);
            }
        }
    }
}
