/* Products of matrices with fewer multiplications: Strassen's algorithm (1969), once or twice over.
 *
 * 2 or 4 rows side by side (of one image), as many parts of the input channels, and as many panels of output channels take
 * 7 or 49 products in place of 8 or 64. The sums of a block's rows are made first and stay in the cache; then, for a
 * group of panels, the products, and from them the outputs. Kernels are summed when they are packed.
 *
 * tables.h has the algorithm: product r is of ROWS_OF[r] (2, 2) parts of rows by PANELS_OF[r] (2, 2) parts of kernels, and
 * RESULTS[i][j] (7) says what output (i, j) takes of each. `block` is how many groups of rows a piece of work has at most, and
 * `group` how many groups of panels: all of them, unless there is much more to be read of kernels than of rows.
 */

#include "packing.h"
#include "step.h"

#include "tables.h"

#define PARTS 7
#define APART 16 /* between two products, which must not lie 4096 bytes apart */
#define FAR (1 << 18) /* floats of a blob that no longer lies in a thread's own cache */

static const float zeros[4096 + LANES]; /* what lies outside a blob; no layer has more channels */

INLINE vec sum_of(const float *factors, int step, int n, const vec *x)
{
    vec sum = {0};
    UNROLL for (int i = 0; i < n; i++)
        if (factors[i * step] != 0)
            sum += factors[i * step] * x[i];
    return sum;
}

/* The sums of parts x (2, 2) of two rows, for each product. */
INLINE void sums_of_rows(const vec *x, vec *to)
{
    UNROLL for (int r = 0; r < PARTS; r++)
        to[r] = sum_of(ROWS_OF + 4 * r, 1, 4, x);
}

/* The outputs (2, 2) of products. */
INLINE void results(const vec *products, vec *to)
{
    UNROLL for (int i = 0; i < 4; i++)
        to[i] = sum_of(RESULTS + PARTS * i, 1, PARTS, products);
}

/* The sums of parts x (side, side) for each product. */
INLINE void evaluate(int levels, const vec *x, float *to, int64_t apart)
{
    if (levels == 1) {
        vec sums[PARTS];
        sums_of_rows(x, sums);
        UNROLL for (int r = 0; r < PARTS; r++)
            *(vec *)(to + r * apart) = sums[r];
        return;
    }
    vec half[4][PARTS]; /* over the outer halves, for each inner row and part */
    UNROLL for (int i = 0; i < 2; i++)
        UNROLL for (int k = 0; k < 2; k++) {
            vec outer[4] = {x[4 * i + k], x[4 * i + 2 + k], x[4 * (2 + i) + k], x[4 * (2 + i) + 2 + k]};
            sums_of_rows(outer, half[2 * i + k]);
        }
    UNROLL for (int r = 0; r < PARTS; r++) {
        vec inner[4] = {half[0][r], half[1][r], half[2][r], half[3][r]}, sums[PARTS];
        sums_of_rows(inner, sums);
        UNROLL for (int i = 0; i < PARTS; i++)
            *(vec *)(to + (PARTS * r + i) * apart) = sums[i];
    }
}

/* The outputs (side, side) of products. */
INLINE void interpolate(int levels, const float *products, int64_t apart, vec *to)
{
    vec p[PARTS], half[PARTS][4];
    if (levels == 1) {
        UNROLL for (int r = 0; r < PARTS; r++)
            p[r] = load(products + r * apart);
        results(p, to);
        return;
    }
    UNROLL for (int r = 0; r < PARTS; r++) {
        UNROLL for (int i = 0; i < PARTS; i++)
            p[i] = load(products + (PARTS * r + i) * apart);
        results(p, half[r]);
    }
    UNROLL for (int i = 0; i < 2; i++)
        UNROLL for (int j = 0; j < 2; j++) {
            vec outer[4];
            UNROLL for (int r = 0; r < PARTS; r++)
                p[r] = half[r][2 * i + j];
            results(p, outer);
            UNROLL for (int o = 0; o < 4; o++)
                to[4 * (2 * (o / 2) + i) + 2 * (o % 2) + j] = outer[o];
        }
}

/* Rows of one group: the outputs that lie side by side in an image from `position` on, `count` of which exist. */
struct group {
    int64_t image, position;
    int count;
};

INLINE struct group group_of(const struct step *s, int64_t number, int side)
{
    int64_t of_image = s->h * s->w, groups = (of_image + side - 1) / side;
    int64_t position = number % groups * side;
    return (struct group){number / groups, position, (int)least(side, of_image - position)};
}

/* Read a row from end to end: in sixteen places at a time, as sums do, it comes from memory three times more slowly. */
INLINE void read_through(const float *row, int64_t length)
{
    LOOP for (int64_t c = 0; c < length; c += LINE)
        (void)*(const volatile float *)(row + c);
}

/* Sums of one group of rows, to `to` + product * apart: what its outputs read, in the order row, column, channel. */
INLINE void evaluate_group(int levels, const struct step *s, float *arena, int64_t number, float *to, int64_t apart)
{
    const int side = 1 << levels;
    struct group group = group_of(s, number, side);
    int64_t part = s->in_channels / side;
    const int is_far = levels > 1 && s->images * s->in_h * s->in_w * s->in_channels > FAR;
    for (int64_t i = 0; i < s->kernel_h; i++)
        for (int64_t j = 0; j < s->kernel_w; j++, to += part) {
            const float *rows[4];
            for (int r = 0; r < side; r++) {
                int64_t y = (group.position + r) / s->w * s->stride_h - s->top + i * s->dilation_h;
                int64_t x = (group.position + r) % s->w * s->stride_w - s->left + j * s->dilation_w;
                int inside = r < group.count && y >= 0 && y < s->in_h && x >= 0 && x < s->in_w;
                rows[r] = inside ? place(arena, &s->x, group.image, y, x) : zeros;
                if (is_far)
                    read_through(rows[r], s->in_channels);
            }
            LOOP for (int64_t c = 0; c < part; c += LANES) {
                vec x[16];
                UNROLL for (int r = 0; r < side; r++)
                    UNROLL for (int k = 0; k < side; k++)
                        x[side * r + k] = load(rows[r] + k * part + c);
                evaluate(levels, x, to + c, apart);
            }
        }
}

/* The outputs of a whole group of rows and a whole group of panels. */
INLINE void put_all(int levels, const struct step *s, float *const *y, const float *const *z, int64_t channel,
                    const float *products, int64_t apart, int added)
{
    const int side = 1 << levels;
    const struct bend bend = bend_of(s, 0);
    const vec floor = all_of(bend.floor), ceiling = all_of(bend.ceiling);
    LOOP for (int64_t v = 0; v < PANEL; v += LANES) {
        vec out[16];
        interpolate(levels, products + v, apart, out);
        UNROLL for (int j = 0; j < side; j++) {
            int64_t c = channel + j * PANEL + v;
            vec constant = load(s->bias + c);
            UNROLL for (int r = 0; r < side; r++) {
                vec value = out[side * r + j] + constant;
                if (added)
                    value += load(z[r] + c);
                value = bend.sloped ? sloping(value, slope_of(&bend, c)) : below(ceiling, above(floor, value));
                *(vec *)(y[r] + c) = value;
            }
        }
    }
}

/* The outputs of one group of rows and one group of panels, the first of which begins at `channel`. */
INLINE void finish_group(int levels, const struct step *s, float *arena, int64_t number, int64_t channel,
                         const float *products, int64_t apart)
{
    const int side = 1 << levels;
    struct group group = group_of(s, number, side);
    float *y[4];
    const float *z[4];
    for (int r = 0; r < group.count; r++) {
        int64_t row = (group.position + r) / s->w, col = (group.position + r) % s->w;
        y[r] = place(arena, &s->y, group.image, row, col);
        z[r] = s->z.image ? place(arena, &s->z, group.image, row, col) : 0;
    }
    if (group.count == side && channel + side * PANEL <= s->channels && is_bent(s) && s->bias) {
        if (s->z.image)
            put_all(levels, s, y, z, channel, products, apart, 1);
        else
            put_all(levels, s, y, z, channel, products, apart, 0);
        return;
    }
    LOOP for (int64_t v = 0; v < PANEL; v += LANES) {
        vec out[16];
        interpolate(levels, products + v, apart, out);
        LOOP for (int r = 0; r < group.count; r++)
            LOOP for (int j = 0; j < side; j++) {
                int64_t c = channel + j * PANEL + v;
                if (c < s->channels)
                    store(y[r] + c, finished(s, out[side * r + j], c, z[r]), s->channels - c);
            }
    }
}

/* The lines of one output row of a block, and one group of panels, which are fetched while its products are made. */
INLINE void fetch_outputs(int levels, const struct step *s, float *arena, int64_t first, int64_t row, int64_t channel)
{
    const int side = 1 << levels;
    struct group group = group_of(s, first + row / side, side);
    if (row % side >= group.count)
        return;
    int64_t y = (group.position + row % side) / s->w, x = (group.position + row % side) % s->w;
    const float *to = place(arena, &s->y, group.image, y, x) + channel;
    UNROLL for (int i = 0; i < side * PANEL; i += LINE)
        __builtin_prefetch(to + i, 1, 2);
    if (!s->z.image)
        return;
    const float *added = place(arena, &s->z, group.image, y, x) + channel;
    UNROLL for (int i = 0; i < side * PANEL; i += LINE)
        __builtin_prefetch(added + i, 0, 2);
}

INLINE void multiply_all(int levels, const struct step *s, struct worker *w)
{
    const int side = 1 << levels, points = levels == 1 ? PARTS : PARTS * PARTS;
    int64_t length = s->kernel_h * s->kernel_w * s->in_channels / side, of_panel = length * PANEL;
    int64_t all = s->images * ((s->h * s->w + side - 1) / side), panels = (s->channels + PANEL - 1) / PANEL;
    int64_t apart = spread(s->block * spread(length)), kept = s->block * PANEL + APART;
    float *products = scratch_of(s, w), *sums = products + points * kept;
    const int is_far = s->images * s->h * s->w * s->channels > FAR;
    const int64_t blocks = (all + s->block - 1) / s->block, groups = (panels + s->group * side - 1) / (s->group * side);
    for (int64_t piece, last = -1; (piece = take(w, blocks * groups)) >= 0;) {
        int64_t block = piece / groups, first = block * all / blocks; /* as alike as can be: the largest is waited for */
        int64_t count = (block + 1) * all / blocks - first, from_panel = piece % groups * s->group * side;
        if (block != last)
            for (int64_t i = 0; i < count; i++)
                evaluate_group(levels, s, w->arena, first + i, sums + i * spread(length), apart);
        last = block;
        const int64_t tiles = (count + ROWS - 1) / ROWS;
        const float *kernels = s->kernels + from_panel / side * points * of_panel;
        for (int64_t panel = from_panel; panel < least(from_panel + s->group * side, panels); panel += side) {
            int64_t fetched = 0;
            for (int p = 0; p < points; p++, kernels += of_panel)
                for (int64_t i = 0, from = 0, until; from < count; i++, from = until) {
                    for (; is_far && fetched * points < side * (p * count + from); fetched++)
                        fetch_outputs(levels, s, w->arena, first, fetched, panel * PANEL);
                    until = from + (count <= ROWS ? least((count + 1) / 2, count - from) : tile_of(count - from));
                    struct rows rows = {sums + p * apart + from * spread(length), spread(length), 1, 0, length,
                                        part_of_next(kernels + of_panel, i, tiles, length), AT_ONCE, 0};
                    multiply(&rows, kernels, (int)(until - from), PANEL, products + p * kept + from * PANEL, 0);
                }
            for (int64_t i = 0; i < count; i++)
                finish_group(levels, s, w->arena, first + i, panel * PANEL, products + i * PANEL, kept);
        }
    }
}

/* The share of product `p` that part (k, j) of the kernels has. */
INLINE double share_of(int levels, int p, int k, int j)
{
    if (levels == 1)
        return PANELS_OF[4 * p + 2 * k + j];
    return PANELS_OF[4 * (p / PARTS) + 2 * (k / 2) + j / 2] * PANELS_OF[4 * (p % PARTS) + 2 * (k % 2) + j % 2];
}

/* To (groups, products, places, part of in_channels, PANEL), summed. */
INLINE void pack_group(int levels, const struct packing *all, const float *weights, int64_t group)
{
    const int side = 1 << levels, points = levels == 1 ? PARTS : PARTS * PARTS;
    const int64_t part = all->in_channels / side, places = all->u->length / all->in_channels;
    for (int64_t i = 0; i < places * part; i++) {
        double parts[16][PANEL]; /* (k, j): the kernels' numbers that are summed */
        for (int k = 0; k < side; k++)
            for (int j = 0; j < side; j++) {
                const float *from = weights + ((k * part + i % part) * places + i / part) * side * PANEL;
                for (int n = 0; n < PANEL; n++)
                    parts[side * k + j][n] = from[j * PANEL + n];
            }
        for (int p = 0; p < points; p++) {
            double sum[PANEL] = {0};
            for (int at = 0; at < side * side; at++) {
                double factor = share_of(levels, p, at / side, at % side);
                if (factor != 0)
                    for (int n = 0; n < PANEL; n++)
                        sum[n] += factor * parts[at][n];
            }
            float *of_panel = all->to + ((group * points + p) * places * part + i) * PANEL;
            for (int n = 0; n < PANEL; n++)
                of_panel[n] = (float)sum[n];
        }
    }
}

#define FOR_LEVELS(levels)                                                                                             \
    void strassen_##levels(const struct step *s, struct worker *w) { multiply_all(levels, s, w); }                     \
    static void pack_group_##levels(const struct packing *p, const float *weights, int64_t group)                      \
    {                                                                                                                  \
        pack_group(levels, p, weights, group);                                                                         \
    }                                                                                                                  \
    void pack_strassen_##levels(const struct unpacked *u, int64_t in_channels, int threads, float *to)                 \
    {                                                                                                                  \
        pack_parts(u, in_channels, (1 << levels) * PANEL, threads, to, pack_group_##levels);                           \
    }

FOR_LEVELS(1)
FOR_LEVELS(2)
