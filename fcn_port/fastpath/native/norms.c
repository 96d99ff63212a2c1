/* Layers that divide numbers by what they know of others: of channels beside them, of places around them, or of a batch. */

#include <math.h>

#include "windows.h"

/* value^beta, for the beta that most nets have by two roots. */
INLINE vec power(vec value, float beta)
{
    if (beta == 0.75f) {
        vec root = square_root(value);
        return root * square_root(root);
    }
    LOOP for (int i = 0; i < LANES; i++)
        value[i] = powf(value[i], beta);
    return value;
}

/* x / (k + alpha / size * sum of neighbours' squares)^beta; parameters: alpha / size, k, beta. kernel_w is the size. */
void normalize(const struct step *s, struct worker *w)
{
    const int64_t reach = s->kernel_w / 2, n = s->channels;
    const float alpha = (float)s->parameters[0], k = (float)s->parameters[1], beta = (float)s->parameters[2];
    float *squares = scratch_of(s, w) + reach;
    for (int64_t piece; (piece = take(w, s->images * s->h)) >= 0;) {
        LOOP for (int64_t i = 1; i <= reach; i++)
            squares[-i] = 0;
        for (int64_t x = 0; x < s->w; x++) {
            const float *from = place(w->arena, &s->x, piece / s->h, piece % s->h, x);
            float *y = place(w->arena, &s->y, piece / s->h, piece % s->h, x);
            LOOP for (int64_t c = 0; c < n; c += LANES)
                *(vec *)(squares + c) = load(from + c) * load(from + c);
            LOOP for (int64_t i = 0; i < reach; i++)
                squares[n + i] = 0;
            LOOP for (int64_t c = 0; c < n; c += LANES) {
                vec sum = {0};
                LOOP for (int64_t i = -reach; i <= reach; i++)
                    sum += load(squares + c + i);
                store(y + c, load(from + c) / power(alpha * sum + k, beta), n - c);
            }
        }
    }
}

/* The same with the places of a square in the blob around each as neighbours; kernel_h and kernel_w are its side. */
void normalize_within(const struct step *s, struct worker *w)
{
    const float alpha = (float)s->parameters[0], k = (float)s->parameters[1], beta = (float)s->parameters[2];
    for (int64_t piece; (piece = take(w, s->images * s->h)) >= 0;) {
        struct windows at = row_of(s, piece);
        for (int64_t x = 0; x < s->w; x++) {
            int64_t left = x - s->left;
            struct range cols = inside(left, s->kernel_w, 1, s->in_w);
            const float *from = place(w->arena, &s->x, at.image, at.top, left);
            const float *middle = place(w->arena, &s->x, at.image, at.y, x);
            float *y = place(w->arena, &s->y, at.image, at.y, x);
            LOOP for (int64_t c = 0; c < s->channels; c += LANES) {
                vec sum = {0};
                LOOP for (int64_t i = at.rows.from; i < at.rows.until; i++)
                    LOOP for (int64_t j = cols.from; j < cols.until; j++) {
                        vec value = load(from + i * s->x.row + j * s->x.col + c);
                        sum += value * value;
                    }
                store(y + c, load(middle + c) / power(alpha * sum + k, beta), s->channels - c);
            }
        }
    }
}

static double sum_of_squares(const float *from, int64_t count)
{
    vec sums = {0};
    double total = 0;
    int64_t c = 0;
    for (; c + LANES <= count; c += LANES)
        sums += load(from + c) * load(from + c);
    for (; c < count; c++)
        total += from[c] * from[c];
    for (int i = 0; i < LANES; i++)
        total += sums[i];
    return total;
}

/* x * kernels[channel] / sqrt(eps + sum of all channels' squares), of one place or, where `shared`, of a whole image. */
void unit(const struct step *s, struct worker *w)
{
    const int64_t rows = s->shared ? s->h : 1, places = s->shared ? s->h * s->w : 1;
    for (int64_t piece; (piece = take(w, s->images * s->h / rows)) >= 0;) {
        const int64_t image = piece * rows / s->h, first = piece * rows % s->h;
        for (int64_t i = 0; i < rows * s->w; i += places) {
            double sum = s->parameters[0];
            for (int64_t j = i; j < i + places; j++)
                sum += sum_of_squares(place(w->arena, &s->x, image, first + j / s->w, j % s->w), s->channels);
            const vec root = all_of((float)sqrt(sum));
            for (int64_t j = i; j < i + places; j++) {
                const float *from = place(w->arena, &s->x, image, first + j / s->w, j % s->w);
                float *y = place(w->arena, &s->y, image, first + j / s->w, j % s->w);
                LOOP for (int64_t c = 0; c < s->channels; c += LANES)
                    store(y + c, load(from + c) / root * load(s->kernels + c), s->channels - c);
            }
        }
    }
}

enum { TOGETHER = 4 }; /* vectors of channels whose sums are made side by side */

/* Some channels of the images that count together: from `c` on, `vectors` of them. */
struct sample {
    const struct step *s;
    const float *arena;
    int64_t first, images, c;
    int vectors;
};

/* The means over all pixels of x - `around` and, if asked for, of its square. */
static void means_of(const struct sample *m, const float *around, float *to, float *squares)
{
    const struct step *s = m->s;
    double total[TOGETHER * LANES] = {0}, squared[TOGETHER * LANES] = {0};
    const double count = (double)(m->images * s->h * s->w);
    for (int64_t row = 0; row < m->images * s->h; row++) {
        vec sum[TOGETHER] = {0}, sum_of_squares[TOGETHER] = {0};
        for (int64_t x = 0; x < s->w; x++) {
            const float *from = place((float *)m->arena, &s->x, m->first + row / s->h, row % s->h, x) + m->c;
            for (int v = 0; v < m->vectors; v++) {
                vec value = load(from + v * LANES) - load(around + v * LANES);
                sum[v] += value;
                sum_of_squares[v] += value * value;
            }
        }
        for (int v = 0; v < m->vectors; v++)
            for (int i = 0; i < LANES; i++) {
                total[v * LANES + i] += sum[v][i];
                squared[v * LANES + i] += sum_of_squares[v][i];
            }
    }
    for (int i = 0; i < m->vectors * LANES; i++) {
        to[i] = (float)(total[i] / count);
        if (squares)
            squares[i] = (float)(squared[i] / count);
    }
}

/* (x - mean) / sqrt(variance + eps), or (x - mean) / (sqrt(variance) + eps) where `shared`, and what is finished of it; mean
 * and variance are a channel's in `group` images. A piece of work are `block` channels, at most TOGETHER vectors. */
void standardize(const struct step *s, struct worker *w)
{
    const int64_t blocks = (s->channels + s->block - 1) / s->block;
    const float eps = (float)s->parameters[3];
    for (int64_t piece; (piece = take(w, s->images / s->group * blocks)) >= 0;) {
        struct sample m = {s, w->arena, piece / blocks * s->group, s->group, piece % blocks * s->block, 0};
        const int64_t count = least(s->block, s->channels - m.c);
        m.vectors = (int)((count + LANES - 1) / LANES);
        /* The mean is `about` and a rest: one float would be as far from it as its last digit. */
        float nothing[TOGETHER * LANES] = {0}, about[TOGETHER * LANES], rest[TOGETHER * LANES], factor[TOGETHER * LANES];
        means_of(&m, nothing, about, 0);
        means_of(&m, about, rest, factor);
        for (int i = 0; i < m.vectors * LANES; i++) {
            float variance = factor[i] - rest[i] * rest[i]; /* below 0 by rounding, where all numbers are equal */
            variance = variance < 0 ? 0 : variance;
            factor[i] = 1 / (s->shared ? sqrtf(variance) + eps : sqrtf(variance + eps));
        }
        for (int64_t row = 0; row < s->group * s->h; row++)
            for (int64_t x = 0; x < s->w; x++) {
                const float *from = place(w->arena, &s->x, m.first + row / s->h, row % s->h, x) + m.c;
                float *y = place(w->arena, &s->y, m.first + row / s->h, row % s->h, x) + m.c;
                for (int v = 0; v < m.vectors; v++) {
                    vec value = load(from + v * LANES) - load(about + v * LANES) - load(rest + v * LANES);
                    value *= load(factor + v * LANES);
                    if (s->kernels)
                        value *= load(s->kernels + m.c + v * LANES);
                    store(y + v * LANES, finished(s, value, m.c + v * LANES, 0), count - v * LANES);
                }
            }
    }
}
