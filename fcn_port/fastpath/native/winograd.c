/* Convolution by Winograd's filtering, a block of tiles at a time (../winograd.py has the mathematics).
 *
 * A block's tiles are evaluated at the n * n points and stay in the cache; then, for a group of them and one panel of output
 * channels, products are summed over input channels at each point, and interpolated to where they belong. So nothing
 * between blob and blob reaches memory.
 *
 * tables.h is written from points.py: for each form DATA is B^T (n, n), OUTPUT A^T (m, n), KERNEL G (n, n - m + 1), and
 * EVALUATED how many input channels of lean kernels are evaluated at a time.
 *
 * A wide kernel is cut into `pieces` along each axis, all but the last m taps long, so that what the second piece of a tile
 * reads is what the first one of the next tile does: a window is evaluated once, and products with all pieces are summed
 * before the interpolation. Behind the last tile of a row or column lie windows that later pieces read; they are counted as
 * tiles that have no outputs. Pieces of m taps have none at infinity, for the power that they lack.
 *
 * Kernels were evaluated when they were packed, or lie as they are, a quarter of the bytes or less, and are evaluated for
 * each panel and block ("lean"), some input channels at a time: to the same bits, by the same function.
 *
 * `block` tiles are evaluated at a time, the products of `group` of them are kept until they are interpolated; `shared`:
 * threads work on the same block. The scratch of a thread are its products, its evaluated kernels, and unless shared its
 * tiles; shared tiles are the common scratch.
 */

#include "packing.h"
#include "step.h"
#include "tile_products.h"
#include "winograd_kernels.h"

#include "tables.h"

#define FEW_TILES 4 /* of a shared block, evaluated as one piece of work */
#define MOST_TILES 256 /* of a group: division.py makes none larger */
/* Between two points lie so many floats more: distances of 4096 bytes would bring all to the same place in the cache. */
#define APART 16

static const float zeros[4096 + LANES]; /* what lies outside a blob; no layer has more channels */

/* The tiles along one axis of `length` outputs. A dilated window reads every so many rows: outputs as far apart have tiles of
 * their own, m of each such phase together. The first `longer` phases have one output more than the others. */
struct axis {
    int64_t apart, longer, of_longer, of_others; /* tiles of a phase */
};

INLINE struct axis axis_of(int64_t length, int64_t apart, int m, int pieces)
{
    int64_t least_of_phase = length / apart, others = (least_of_phase + m - 1) / m;
    int64_t behind = pieces - 1; /* windows that no tile's first piece reads */
    return (struct axis){apart, length % apart, least_of_phase / m + 1 + behind, others ? others + behind : 0};
}

INLINE int64_t tiles_along(const struct axis *a) { return a->longer * a->of_longer + (a->apart - a->longer) * a->of_others; }

/* The first output of a tile, from which the others are `apart` away. */
INLINE int64_t first_output(const struct axis *a, int64_t tile, int m)
{
    int64_t others = tile - a->longer * a->of_longer;
    if (others < 0)
        return tile / a->of_longer + tile % a->of_longer * m * a->apart;
    return a->longer + others / a->of_others + others % a->of_others * m * a->apart;
}

struct spot {
    int64_t image, y, x; /* of a tile's first output */
};

INLINE int64_t tiles_of_row(const struct step *s, int m, int pieces)
{
    struct axis along = axis_of(s->w, s->dilation_w, m, pieces);
    return tiles_along(&along);
}

INLINE struct spot spot_of(const struct step *s, int64_t tile, int m, int pieces)
{
    struct axis down = axis_of(s->h, s->dilation_h, m, pieces), along = axis_of(s->w, s->dilation_w, m, pieces);
    int64_t rows = tiles_along(&down), cols = tiles_along(&along);
    int64_t y = first_output(&down, tile / cols % rows, m);
    return (struct spot){tile / (rows * cols), y, first_output(&along, tile % cols, m)};
}

INLINE int64_t tiles_of(const struct step *s, int m, int pieces)
{
    struct axis down = axis_of(s->h, s->dilation_h, m, pieces);
    return s->images * tiles_along(&down) * tiles_of_row(s, m, pieces);
}

/* The windows behind a tile's own up to that of its last piece. */
INLINE int64_t behind(const struct step *s, int m, int pieces)
{
    return (pieces - 1) * (tiles_of_row(s, m, pieces) + 1);
}

INLINE int64_t wide(const struct step *s) { return spread(s->in_channels); }

/* Sum of a[i] * x[i], for numbers a that the compiler knows. */
INLINE vec dot(const float *a, int n, const vec *x)
{
    vec sum = {0};
    UNROLL for (int i = 0; i < n; i++)
        if (a[i] != 0)
            sum += a[i] * x[i];
    return sum;
}

/* B^T x. Points come in pairs, a and -a, between 0 and infinity (points.py): of their two rows, entries for even powers are
 * the same, and those for odd ones opposite. */
INLINE void at_points(const float *data, int n, const vec *x, vec *to)
{
    to[0] = dot(data, n, x);
    to[n - 1] = dot(data + (n - 1) * n, n, x);
    UNROLL for (int p = 1; p < n - 1; p += 2) {
        const float *a = data + p * n, *b = a + n;
        vec even = {0}, odd = {0};
        UNROLL for (int i = 0; i < n; i++) {
            if (a[i] != 0 && a[i] == b[i])
                even += a[i] * x[i];
            else if (a[i] != 0)
                odd += a[i] * x[i];
        }
        to[p] = even + odd;
        to[p + 1] = even - odd;
    }
}

/* A^T p: powers of the points, which for a and -a are the same or opposite. */
INLINE void from_points(const float *output, int n, int m, const vec *p, vec *to)
{
    vec both[MOST / 2], apart[MOST / 2];
    UNROLL for (int i = 1; i < n - 1; i += 2) {
        both[i / 2] = p[i] + p[i + 1];
        apart[i / 2] = p[i] - p[i + 1];
    }
    UNROLL for (int row = 0; row < m; row++) {
        const float *a = output + row * n;
        vec sum = row == 0 ? p[0] : row == m - 1 ? p[n - 1] : (vec){0}; /* which count there only */
        UNROLL for (int i = 1; i < n - 1; i += 2)
            sum += a[i] * (row % 2 ? apart[i / 2] : both[i / 2]);
        to[row] = sum;
    }
}

/* B^T d B for one tile's window d, to `to` + point * stride. */
INLINE void evaluate(const float *data, int n, int m, int pieces, const struct step *s, float *arena, int64_t tile,
                     float *to, int64_t stride)
{
    struct spot at = spot_of(s, tile, m, pieces);
    const float *from[MOST][MOST];
    for (int u = 0; u < n; u++)
        for (int v = 0; v < n; v++) {
            int64_t y = at.y - s->top + u * s->dilation_h, x = at.x - s->left + v * s->dilation_w;
            int inside = y >= 0 && y < s->in_h && x >= 0 && x < s->in_w;
            from[u][v] = inside ? place(arena, &s->x, at.image, y, x) : zeros;
        }
    const int64_t next = m * s->dilation_w * s->x.col;
    for (int64_t c = 0; c < s->in_channels; c += LANES) {
        vec d[MOST], half[MOST][MOST];
        LOOP for (int v = 0; v < n; v++) {
            UNROLL for (int u = 0; u < n; u++) {
                d[u] = load(from[u][v] + c);
                if (v >= n - m)
                    __builtin_prefetch(from[u][v] + c + next, 0, 3);
            }
            vec some[MOST];
            at_points(data, n, d, some);
            UNROLL for (int i = 0; i < n; i++)
                half[i][v] = some[i];
        }
        LOOP for (int i = 0; i < n; i++) {
            vec some[MOST];
            at_points(data, n, half[i], some);
            UNROLL for (int j = 0; j < n; j++)
                *(vec *)(to + (i * n + j) * stride + c) = some[j];
        }
    }
}

/* A^T p A for one tile and one panel of channels, to the tile's place in y. */
INLINE void interpolate(const float *output, int n, int m, int pieces, const struct step *s, float *arena, int64_t tile,
                        int64_t channel, const float *products, int64_t stride)
{
    struct spot at = spot_of(s, tile, m, pieces);
    int64_t rows = least((s->h - at.y + s->dilation_h - 1) / s->dilation_h, m);
    int64_t cols = least((s->w - at.x + s->dilation_w - 1) / s->dilation_w, m);
    const int64_t y_row = s->dilation_h * s->y.row, y_col = s->dilation_w * s->y.col;
    const int64_t z_row = s->dilation_h * s->z.row, z_col = s->dilation_w * s->z.col;
    LOOP for (int64_t c = channel; c < least(channel + PANEL, s->channels); c += LANES, products += LANES) {
        float *y = place(arena, &s->y, at.image, at.y, at.x) + c;
        const float *z = s->z.image ? place(arena, &s->z, at.image, at.y, at.x) : 0;
        vec p[MOST], half[MOST][MOST], out[MOST];
        LOOP for (int v = 0; v < n; v++) {
            UNROLL for (int u = 0; u < n; u++)
                p[u] = load(products + (u * n + v) * stride);
            from_points(output, n, m, p, out);
            UNROLL for (int i = 0; i < m; i++)
                half[i][v] = out[i];
        }
        LOOP for (int i = 0; i < rows; i++) {
            from_points(output, n, m, half[i], out);
            LOOP for (int j = 0; j < cols; j++) {
                __builtin_prefetch(y + i * y_row + (j + m) * y_col, 1, 3);
                const float *added = z ? z + i * z_row + j * z_col : 0;
                store(y + i * y_row + j * y_col, finished(s, out[j], c, added), s->channels - c);
            }
        }
    }
}

/* Where a step's tiles, products and evaluated kernels lie. */
struct memory {
    float *tiles, *products, *kernels;
    int64_t apart, kept; /* between two points of tiles, and of products */
};

INLINE struct memory memory_of(const struct step *s, const struct worker *w, int n, int m, int pieces)
{
    int64_t apart = (s->block + behind(s, m, pieces)) * wide(s) + APART, kept = s->group * PANEL + APART;
    float *own = scratch_of(s, w), *products = s->shared ? own : own + n * n * apart;
    return (struct memory){s->shared ? w->arena + s->common : own, products, products + n * n * kept, apart, kept};
}

/* Tiles side by side that are multiplied together. */
struct run {
    int64_t from, count;
};

/* The tiles lo ... hi - 1 of a block that have outputs, in runs; how many of these there are. */
INLINE int64_t runs_of(const struct step *s, int m, int pieces, int64_t first, int64_t lo, int64_t hi, struct run *runs)
{
    const int64_t of_tile = m * s->dilation_w;
    int64_t count = 0;
    for (int64_t from = lo, together; from < hi; from += most(together, 1)) {
        together = hi - from;
        if (pieces > 1) { /* to the end of a row */
            struct spot at = spot_of(s, first + from, m, pieces);
            together = at.y < s->h ? least(together, (s->w - at.x + of_tile - 1) / of_tile) : 0;
        }
        if (together <= 0)
            continue;
        int64_t count_here = (together + TOGETHER - 1) / TOGETHER;
        together = (together + count_here - 1) / count_here;
        runs[count++] = (struct run){from, together};
    }
    return count;
}

/* A panel of kernels at all points for `channels` input channels from `first` on; `apart` floats between two places. */
struct panel {
    const float *kernels;
    int64_t apart, first, channels;
};

/* Products with a panel of output channels for some runs of tiles, to memory.products. */
INLINE void multiply_runs(int n, int m, int pieces, const struct step *s, const struct run *runs, int64_t count,
                          int64_t lo, struct panel panel, int64_t features, struct memory memory)
{
    const int64_t apart = wide(s), row = tiles_of_row(s, m, pieces), c = panel.channels;
    const float *kernels = panel.kernels;
    for (int p = 0; p < n * n; p++) {
        int up = p / n < n - 1 ? 0 : pieces - 1, left = p % n < n - 1 ? 0 : pieces - 1; /* first pieces that count */
        int across = pieces - left, of_point = (pieces - up) * across;
        const float *next = kernels + of_point * panel.apart;
        for (int64_t i = 0; i < count; i++)
            for (int piece = 0; piece < of_point; piece++) {
                int64_t window = runs[i].from + (up + piece / across) * row + left + piece % across;
                struct tile_rows rows = {memory.tiles + p * memory.apart + window * apart + panel.first, apart, c,
                                         part_of_next(next, i * of_point + piece, count, c),
                                         piece > 0 || panel.first > 0};
                multiply_tiles(&rows, kernels + piece * panel.apart, (int)runs[i].count, features,
                               memory.products + p * memory.kept + (runs[i].from - lo) * PANEL);
            }
        kernels = next;
    }
}

/* What evaluates kernels in each pass, 0 where they were when they were packed, and how many input channels at a time. */
struct lean_kernels {
    evaluator *evaluate;
    int64_t channels;
};

/* One panel of output channels for the tiles lo ... hi - 1 of a block that begins at tile `first` and was evaluated. */
INLINE void finish(const float *output, int n, int m, int side, int pieces, struct lean_kernels lean,
                   const struct step *s, float *arena, int64_t first, int64_t lo, int64_t hi, int64_t panel,
                   struct memory memory)
{
    const int64_t c = s->in_channels, features = s->channels - panel * PANEL, places = places_of(n, pieces);
    struct run runs[MOST_TILES];
    int64_t count = runs_of(s, m, pieces, first, lo, hi, runs);
    if (lean.evaluate) {
        const float *kernels = s->kernels + panel * side * side * c * PANEL;
        const int64_t apart = lean.channels * PANEL + APART;
        for (int64_t from = 0; from < c; from += lean.channels) {
            struct panel part = {memory.kernels, apart, from, least(c - from, lean.channels)};
            lean.evaluate(kernels + from * PANEL, c * PANEL, PANEL, part.channels, memory.kernels, apart);
            multiply_runs(n, m, pieces, s, runs, count, lo, part, features, memory);
        }
    } else {
        struct panel whole = {s->kernels + panel * places * c * PANEL, c * PANEL, 0, c};
        multiply_runs(n, m, pieces, s, runs, count, lo, whole, features, memory);
    }
    for (const struct run *run = runs; run < runs + count; run++)
        for (int64_t i = run->from; i < run->from + run->count; i++)
            interpolate(output, n, m, pieces, s, arena, first + i, panel * PANEL, memory.products + (i - lo) * PANEL,
                        memory.kept);
}

INLINE void convolve(const float *data, const float *output, int n, int m, int side, int pieces,
                     struct lean_kernels lean, const struct step *s, struct worker *w)
{
    int64_t all = tiles_of(s, m, pieces), panels = (s->channels + PANEL - 1) / PANEL;
    struct memory memory = memory_of(s, w, n, m, pieces);
    int64_t blocks = (all + s->block - 1) / s->block, windows = s->block + behind(s, m, pieces);
    if (!s->shared) { /* each thread does blocks of its own, and none waits for another before the end */
        for (int64_t block; (block = take(w, blocks)) >= 0;) {
            int64_t first = block * s->block, count = least(all - first, s->block);
            for (int64_t i = 0; i < least(all - first, windows); i++)
                evaluate(data, n, m, pieces, s, w->arena, first + i, memory.tiles + i * wide(s), memory.apart);
            for (int64_t panel = 0; panel < panels; panel++)
                finish(output, n, m, side, pieces, lean, s, w->arena, first, 0, count, panel, memory);
        }
        return;
    }
    for (int64_t first = 0; first < all; first += s->block) { /* all share a block, and divide groups and panels */
        int64_t count = least(all - first, s->block), groups = (count + s->group - 1) / s->group;
        int64_t read = least(all - first, windows);
        for (int64_t piece; (piece = take(w, (read + FEW_TILES - 1) / FEW_TILES)) >= 0;)
            for (int64_t i = piece * FEW_TILES; i < least((piece + 1) * FEW_TILES, read); i++)
                evaluate(data, n, m, pieces, s, w->arena, first + i, memory.tiles + i * wide(s), memory.apart);
        for (int64_t piece; (piece = take(w, groups * panels)) >= 0;) {
            int64_t lo = piece / panels * s->group;
            finish(output, n, m, side, pieces, lean, s, w->arena, first, lo, least(lo + s->group, count), piece % panels,
                   memory);
        }
    }
}

/* Kernels at all points, to (panels, points, pieces, in_channels, PANEL): what multiply_runs reads, in its order. */
INLINE void pack_panel(evaluator *kernels, int64_t places, const struct packing *p, const float *weights, int64_t panel)
{
    const int64_t of_place = p->in_channels * PANEL, taps = p->u->length / p->in_channels;
    kernels(weights, PANEL, taps * PANEL, p->in_channels, p->to + panel * places * of_place, of_place);
}

#define FORM(name, side, n, m, pieces)                                                                                 \
    static __attribute__((noinline)) void kernels_##name(const float *panel, int64_t tap, int64_t channel,             \
                                                         int64_t channels, float *to, int64_t apart)                   \
    {                                                                                                                  \
        evaluate_kernels(KERNEL_##name, n, m, side, pieces, panel, tap, channel, channels, to, apart);                 \
    }                                                                                                                  \
    static __attribute__((noinline)) void convolve_##name(evaluator *lean, const struct step *s, struct worker *w)     \
    {                                                                                                                  \
        struct lean_kernels kernels = {lean, EVALUATED_##name};                                                        \
        convolve(DATA_##name, OUTPUT_##name, n, m, side, pieces, kernels, s, w);                                       \
    }                                                                                                                  \
    void name(const struct step *s, struct worker *w) { convolve_##name(0, s, w); }                                    \
    static void pack_panel_##name(const struct packing *p, const float *weights, int64_t panel)                        \
    {                                                                                                                  \
        pack_panel(kernels_##name, places_of(n, pieces), p, weights, panel);                                           \
    }                                                                                                                  \
    void pack_##name(const struct unpacked *u, int64_t in_channels, int threads, float *to)                            \
    {                                                                                                                  \
        pack_parts(u, in_channels, PANEL, threads, to, pack_panel_##name);                                             \
    }

/* The same with kernels as they are, in the order of a product's. */
#define LEAN(name)                                                                                                     \
    void name##_lean(const struct step *s, struct worker *w) { convolve_##name(kernels_##name, s, w); }                \
    void pack_##name##_lean(const struct unpacked *u, int64_t in_channels, int threads, float *to)                     \
    {                                                                                                                  \
        pack_product(u, in_channels, threads, to);                                                                     \
    }

FORM(winograd_3, 3, 6, 4, 1)
FORM(winograd_3_small, 3, 4, 2, 1)
FORM(winograd_5, 5, 6, 2, 1)
FORM(winograd_7, 7, 8, 2, 1)
FORM(winograd_7_pieces, 7, 6, 3, 2)
LEAN(winograd_3)
