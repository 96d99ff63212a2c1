/* Convolution by Winograd's filtering, a block of tiles at a time (../winograd.py has the mathematics).
 *
 * A block's tiles are evaluated at the n * n points and stay in the cache; then, for a group of them and one panel of output
 * channels, products are summed over input channels at each point, and interpolated to where they belong. So nothing
 * between blob and blob reaches memory.
 *
 * tables.h is written from points.py: for each form DATA is B^T (n, n), OUTPUT A^T (m, n), KERNEL G (n, n - m + 1), SHORT_ the
 * same of tiles with fewer outputs, and EVALUATED how many input channels of lean kernels are evaluated at a time.
 *
 * A wide kernel is cut into `pieces` along each axis, all but the last m taps long, so that what the second piece of a tile
 * reads is what the first one of the next tile does: a window is evaluated once, and products with all pieces are summed
 * before the interpolation. Behind the last tile of a row or column lie windows that later pieces read; they are counted as
 * tiles that have no outputs. Pieces of m taps have none at infinity, for the power that they lack.
 *
 * The last tile of a row or column may have fewer outputs than the others, and then is evaluated at fewer points
 * (winograd_points.h, winograd_tiles.h).
 *
 * Kernels were evaluated when they were packed, or lie as they are, a quarter of the bytes or less, and are evaluated for
 * each panel and block ("lean"), some input channels at a time: to the same bits, by the same function.
 *
 * `block` tiles are evaluated at a time, the products of `group` of them are kept until they are interpolated. Each point's
 * tiles are multiplied with `stretch` panels of whole kernels in turn, so that they come from a shared cache once for these.
 * `shared`: threads work on the same block. The scratch of a thread are its products, its evaluated kernels, and unless shared its
 * tiles; shared tiles are the common scratch.
 */

#include "packing.h"
#include "step.h"
#include "tile_products.h"
#include "winograd_kernels.h"
#include "winograd_tiles.h"

#include "tables.h"

#define FEW_TILES 4 /* of a shared block, evaluated as one piece of work */
/* Between two points lie so many floats more: distances of 4096 bytes would bring all to the same place in the cache. */
#define APART 16

#define SOON_KEPT (4 * LINE) /* floats behind a value of a window that is stored */

static const float zeros[4096 + LANES]; /* what lies outside a blob; no layer has more channels */

/* The windows behind a tile's own up to that of its last piece. */
INLINE int64_t behind(const struct step *s, int m, int pieces)
{
    return (pieces - 1) * (tiles_of_row(s, m, pieces) + 1);
}

INLINE int64_t wide(const struct step *s) { return spread(s->in_channels); }

/* Store a value of a window. Where it goes was written last a layer or a pass ago and may be back in memory: what is
 * written soon is fetched. */
INLINE void keep(vec value, float *to)
{
    *(vec *)to = value;
    __builtin_prefetch(to + SOON_KEPT, 1, 3);
}

/* B^T d B for one tile's window d, to `to` + point * stride, behind those of the `i` tiles before it in the block. */
INLINE void evaluate(struct form f, int is_whole, const struct step *s, float *arena, const struct tile *tile,
                     const struct order *order, int64_t i, float *to, int64_t stride)
{
    const int n = f.n;
    const struct spot at = tile->at;
    const struct extent has = is_whole ? (struct extent){f.m, f.m} : tile->has;
    const int rows = points_of(f, has.rows), cols = points_of(f, has.cols);
    const float *from[MOST][MOST];
    for (int u = 0; u < n; u++)
        for (int v = 0; v < n; v++) {
            int64_t y = at.y - s->top + u * s->dilation_h, x = at.x - s->left + v * s->dilation_w;
            int inside = y >= 0 && y < s->in_h && x >= 0 && x < s->in_w;
            from[u][v] = inside ? place(arena, &s->x, at.image, y, x) : zeros;
        }
    float *goal[MOST][MOST];
    for (int u = 0; !is_whole && u < rows; u++)
        for (int v = 0; v < cols; v++) {
            const int point = point_of(f, has.rows, u) * n + point_of(f, has.cols, v);
            goal[u][v] = to + point * stride + before(order, i, point) * wide(s);
        }
    to += i * wide(s);
    const int64_t next = f.m * s->dilation_w * s->x.col;
    for (int64_t c = 0; c < s->in_channels; c += LANES) {
        LINED vec d[MOST], half[MOST][MOST];
        LOOP for (int v = 0; v < cols; v++) {
            UNROLL for (int u = 0; u < n; u++) {
                d[u] = load(from[u][v] + c);
                if (v >= n - f.m)
                    __builtin_prefetch(from[u][v] + c + next, 0, 3);
            }
            LINED vec some[MOST];
            at_points(f, has.rows, d, some);
            UNROLL for (int u = 0; u < n; u++)
                half[u][v] = some[u];
        }
        LOOP for (int u = 0; u < rows; u++) {
            LINED vec some[MOST];
            at_points(f, has.cols, half[u], some);
            if (is_whole)
                UNROLL for (int v = 0; v < n; v++)
                    keep(some[v], to + (u * n + v) * stride + c);
            else
                LOOP for (int v = 0; v < cols; v++)
                    keep(some[v], goal[u][v] + c);
        }
    }
}

/* A^T p A for tile `i` of a block and one panel of channels, to the tile's place in y; its products lie behind those of tiles
 * from `lo` on. */
INLINE void interpolate(struct form f, int is_whole, const struct step *s, float *arena, const struct order *order,
                        int64_t i, int64_t lo, int64_t channel, const float *products, int64_t stride)
{
    const int n = f.n, m = f.m;
    const struct spot at = order->tile[i].at;
    const struct extent has = order->tile[i].has;
    const int of_rows = is_whole ? m : has.rows, of_cols = is_whole ? m : has.cols;
    const int down = points_of(f, of_rows), across = points_of(f, of_cols);
    const float *from[MOST][MOST];
    for (int u = 0; !is_whole && u < n; u++)
        for (int v = 0; v < across; v++) {
            const int point = point_of(f, of_rows, (int)least(u, down - 1)) * n + point_of(f, of_cols, v);
            from[u][v] = products + point * stride + (before(order, i, point) - before(order, lo, point)) * PANEL;
        }
    products += (i - lo) * PANEL;
    const int64_t y_row = s->dilation_h * s->y.row, y_col = s->dilation_w * s->y.col;
    const int64_t z_row = s->dilation_h * s->z.row, z_col = s->dilation_w * s->z.col;
    LOOP for (int64_t c = channel; c < least(channel + PANEL, s->channels); c += LANES, products += LANES) {
        float *y = place(arena, &s->y, at.image, at.y, at.x) + c;
        const float *z = s->z.image ? place(arena, &s->z, at.image, at.y, at.x) : 0;
        LINED vec p[MOST], half[MOST][MOST], out[MOST];
        LOOP for (int v = 0; v < across; v++) {
            UNROLL for (int u = 0; u < n; u++)
                p[u] = load(is_whole ? products + (u * n + v) * stride : from[u][v] + c - channel);
            from_points(f, of_rows, p, out);
            UNROLL for (int u = 0; u < m; u++)
                half[u][v] = out[u];
        }
        LOOP for (int u = 0; u < has.rows; u++) {
            from_points(f, of_cols, half[u], out);
            LOOP for (int v = 0; v < has.cols; v++) {
                __builtin_prefetch(y + u * y_row + (v + m) * y_col, 1, 3);
                const float *added = z ? z + u * z_row + v * z_col : 0;
                store(y + u * y_row + v * y_col, finished(s, out[v], c, added), s->channels - c);
            }
        }
    }
}

/* The same two for tiles with few outputs, functions of their own, as those for whole ones keep more in registers then. */
struct short_ways {
    void (*evaluate)(const struct step *s, float *arena, const struct order *order, int64_t i, float *to, int64_t stride);
    void (*interpolate)(const struct step *s, float *arena, const struct order *order, int64_t i, int64_t lo,
                        int64_t channel, const float *products, int64_t stride);
};

/* Where a step's tiles, products and evaluated kernels lie. */
struct memory {
    float *tiles, *products, *kernels;
    int64_t apart, kept; /* between two points of tiles, and of products */
};

INLINE struct memory memory_of(const struct step *s, const struct worker *w, struct form f)
{
    const int n = f.n;
    int64_t apart = (s->block + behind(s, f.m, f.pieces)) * wide(s) + APART, kept = s->group * PANEL + APART;
    float *own = scratch_of(s, w), *products = s->shared ? own : own + n * n * apart;
    float *kernels = products + s->stretch * n * n * kept;
    return (struct memory){s->shared ? w->arena + s->common : own, products, kernels, apart, kept};
}

/* Tiles side by side that are multiplied together. */
struct run {
    int64_t from, count;
};

/* So many tiles in runs that are as alike as can be, from `from` on; how many runs there are. */
INLINE int64_t split(int64_t from, int64_t tiles, struct run *runs)
{
    const int64_t count = (tiles + TOGETHER - 1) / TOGETHER;
    for (int64_t i = 0; i < count; i++) {
        const int64_t alike = (tiles + count - i - 1) / (count - i);
        runs[i] = (struct run){from, alike};
        from += alike, tiles -= alike;
    }
    return count;
}

/* The tiles lo ... hi - 1 of a block that have outputs, in runs, each within a row; how many of these there are. */
INLINE int64_t runs_of(const struct step *s, struct form f, int64_t first, int64_t lo, int64_t hi, struct run *runs)
{
    const int64_t of_tile = f.m * s->dilation_w;
    int64_t count = 0;
    for (int64_t from = lo, together; from < hi; from += most(together, 1)) {
        struct spot at = spot_of(s, first + from, f.m, f.pieces);
        together = at.y < s->h ? most(least(hi - from, (s->w - at.x + of_tile - 1) / of_tile), 0) : 0;
        count += split(from, together, runs + count);
    }
    return count;
}

/* Panels of kernels at all points for `channels` input channels from `first` on; `apart` floats between two places, and
 * `panels` of them. */
struct panel {
    const float *kernels;
    int64_t apart, first, channels, panels;
};

/* Products with some panels of output channels for the tiles lo ... hi - 1 of a block, to memory.products, each panel's behind
 * those of the one before it. */
INLINE void multiply_all(struct form f, const struct step *s, const struct order *order, int64_t lo, int64_t hi,
                         struct panel panel, int64_t features, struct memory memory)
{
    struct run runs[MOST_TILES];
    int64_t count = 0, tiles = 0;
    const int64_t apart = wide(s), c = panel.channels, places = f.n * f.n;
    const float *kernels = panel.kernels, *windows = memory.tiles + panel.first;
    for (int p = 0; p < places; p++) {
        const int64_t begin = before(order, lo, p), end = before(order, hi, p);
        if (end - begin != tiles)
            count = split(0, tiles = end - begin, runs);
        for (int64_t j = 0; j < panel.panels; j++) {
            const float *now = kernels + j * places * panel.apart;
            const float *next = j + 1 < panel.panels ? now + places * panel.apart : kernels + panel.apart;
            float *products = memory.products + (j * places + p) * memory.kept;
            for (int64_t i = 0; i < count; i++) {
                struct tile_rows rows = {windows + (begin + runs[i].from) * apart, apart, c,
                                         part_of_next(next, i, count, c), panel.first > 0};
                multiply_tiles(&rows, now, (int)runs[i].count, features - j * PANEL, products + runs[i].from * PANEL);
            }
        }
        kernels += panel.apart, windows += memory.apart;
    }
}

/* The same where kernels are in pieces, for some runs of tiles. */
INLINE void multiply_runs(struct form f, const struct step *s, const struct run *runs, int64_t count, int64_t lo,
                          struct panel panel, int64_t features, struct memory memory)
{
    const int n = f.n, pieces = f.pieces;
    const int64_t apart = wide(s), row = tiles_of_row(s, f.m, pieces), c = panel.channels;
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

/* Tiles lo ... hi - 1 of a block that begins at tile `first` and was evaluated. */
struct group {
    int64_t first, lo, hi;
    const struct order *order;
};

/* From the products of one panel of output channels for a group to its outputs; `runs` are those of kernels in pieces. */
INLINE void finish(struct form f, struct short_ways few, const struct step *s, float *arena, struct group g,
                   const struct run *runs, int64_t count, int64_t channel, const float *products, int64_t kept)
{
    for (const struct run *run = runs; run < runs + count; run++)
        for (int64_t i = run->from; i < run->from + run->count; i++)
            interpolate(f, 1, s, arena, g.order, i, g.lo, channel, products, kept);
    for (int64_t i = f.pieces > 1 ? g.hi : g.lo; i < g.hi; i++)
        if (i < g.order->whole)
            interpolate(f, 1, s, arena, g.order, i, g.lo, channel, products, kept);
        else
            few.interpolate(s, arena, g.order, i, g.lo, channel, products, kept);
}

/* Some panels of output channels for a group: one, where kernels are lean or in pieces. */
INLINE void compute(struct form f, struct short_ways few, struct lean_kernels lean, const struct step *s, float *arena,
                    struct group g, int64_t panel, int64_t panels, struct memory memory)
{
    const int64_t c = s->in_channels, features = s->channels - panel * PANEL, places = places_of(f.n, f.pieces);
    struct run runs[MOST_TILES];
    const int64_t count = f.pieces > 1 ? runs_of(s, f, g.first, g.lo, g.hi, runs) : 0;
    if (lean.evaluate) {
        const float *kernels = s->kernels + panel * f.side * f.side * c * PANEL;
        const int64_t apart = lean.channels * PANEL + APART;
        for (int64_t from = 0; from < c; from += lean.channels) {
            struct panel part = {memory.kernels, apart, from, least(c - from, lean.channels), 1};
            lean.evaluate(kernels + from * PANEL, c * PANEL, PANEL, part.channels, memory.kernels, apart);
            multiply_all(f, s, g.order, g.lo, g.hi, part, features, memory);
        }
    } else {
        struct panel whole = {s->kernels + panel * places * c * PANEL, c * PANEL, 0, c, panels};
        if (f.pieces > 1)
            multiply_runs(f, s, runs, count, g.lo, whole, features, memory);
        else
            multiply_all(f, s, g.order, g.lo, g.hi, whole, features, memory);
    }
    for (int64_t j = 0; j < panels; j++)
        finish(f, few, s, arena, g, runs, count, (panel + j) * PANEL, memory.products + j * f.n * f.n * memory.kept,
               memory.kept);
}

/* Window `i` of a block that begins at tile `first`. */
INLINE void evaluate_next(struct form f, struct short_ways few, const struct step *s, float *arena, int64_t first,
                          const struct order *order, int64_t i, struct memory memory)
{
    if (f.pieces > 1) {
        const struct tile tile = tile_at(f, s, first + i); /* a window behind the block's tiles, too */
        evaluate(f, 1, s, arena, &tile, order, i, memory.tiles, memory.apart);
    } else if (i < order->whole)
        evaluate(f, 1, s, arena, &order->tile[i], order, i, memory.tiles, memory.apart);
    else
        few.evaluate(s, arena, order, i, memory.tiles, memory.apart);
}

INLINE void convolve(struct form f, struct short_ways few, struct lean_kernels lean, const struct step *s,
                     struct worker *w)
{
    int64_t all = tiles_of(s, f.m, f.pieces), panels = (s->channels + PANEL - 1) / PANEL, some = s->stretch;
    struct memory memory = memory_of(s, w, f);
    struct order order;
    int64_t blocks = (all + s->block - 1) / s->block, windows = s->block + behind(s, f.m, f.pieces);
    if (!s->shared) { /* each thread does blocks of its own, and none waits for another before the end */
        for (int64_t block; (block = take(w, blocks)) >= 0;) {
            int64_t first = block * s->block, count = least(all - first, s->block);
            arrange(f, s, first, count, &order);
            for (int64_t i = 0; i < least(all - first, windows); i++)
                evaluate_next(f, few, s, w->arena, first, &order, i, memory);
            for (int64_t panel = 0; panel < panels; panel += some)
                compute(f, few, lean, s, w->arena, (struct group){first, 0, count, &order}, panel,
                        least(some, panels - panel), memory);
        }
        return;
    }
    for (int64_t first = 0; first < all; first += s->block) { /* all share a block, and divide groups and panels */
        int64_t count = least(all - first, s->block), groups = (count + s->group - 1) / s->group;
        int64_t parts = (panels + some - 1) / some;
        int64_t read = least(all - first, windows);
        arrange(f, s, first, count, &order);
        for (int64_t piece; (piece = take(w, (read + FEW_TILES - 1) / FEW_TILES)) >= 0;)
            for (int64_t i = piece * FEW_TILES; i < least((piece + 1) * FEW_TILES, read); i++)
                evaluate_next(f, few, s, w->arena, first, &order, i, memory);
        for (int64_t piece; (piece = take(w, groups * parts)) >= 0;) {
            int64_t lo = piece / parts * s->group, panel = piece % parts * some;
            struct group group = {first, lo, least(lo + s->group, count), &order};
            compute(f, few, lean, s, w->arena, group, panel, least(some, panels - panel), memory);
        }
    }
}

/* Kernels at all points, to (panels, points, pieces, in_channels, PANEL): what multiply_runs reads, in its order. */
INLINE void pack_panel(evaluator *kernels, int64_t places, const struct packing *p, const float *weights, int64_t panel)
{
    const int64_t of_place = p->in_channels * PANEL, taps = p->u->length / p->in_channels;
    kernels(weights, PANEL, taps * PANEL, p->in_channels, p->to + panel * places * of_place, of_place);
}

#define OWN static __attribute__((noinline)) void

#define FORM(name, side, n, m, pieces)                                                                                 \
    OWN kernels_##name(const float *panel, int64_t tap, int64_t channel, int64_t channels, float *to, int64_t apart)   \
    {                                                                                                                  \
        evaluate_kernels(KERNEL_##name, n, m, side, pieces, panel, tap, channel, channels, to, apart);                 \
    }                                                                                                                  \
    static const struct form form_##name = {n, m, side, pieces, DATA_##name, OUTPUT_##name, SHORT_DATA_##name,         \
                                            SHORT_OUTPUT_##name, SHORT_POINTS_##name};                                 \
    OWN evaluate_short_##name(const struct step *s, float *arena, const struct order *order, int64_t i, float *to,     \
                              int64_t stride)                                                                          \
    {                                                                                                                  \
        evaluate(form_##name, 0, s, arena, &order->tile[i], order, i, to, stride);                                     \
    }                                                                                                                  \
    OWN interpolate_short_##name(const struct step *s, float *arena, const struct order *order, int64_t i, int64_t lo, \
                                 int64_t channel, const float *products, int64_t stride)                               \
    {                                                                                                                  \
        interpolate(form_##name, 0, s, arena, order, i, lo, channel, products, stride);                                \
    }                                                                                                                  \
    OWN convolve_##name(evaluator *lean, const struct step *s, struct worker *w)                                       \
    {                                                                                                                  \
        struct short_ways few = {evaluate_short_##name, interpolate_short_##name};                                     \
        convolve(form_##name, few, (struct lean_kernels){lean, EVALUATED_##name}, s, w);                               \
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
