/* Convolution as a product of matrices: each row is what one output reads, in the order row, column, channel.
 *
 * Where rows lie side by side in the blob (1x1, and windows as large as the blob) they are read from there (`shared` is
 * FLAT); elsewhere a block of them is copied together first (GATHERED), or, where few outputs would read the copy, only those at
 * the blob's edge (IN_PLACE). `block` is how many rows a piece of work has at most, in place whole rows of outputs, `group` how
 * many panels. Where `stretch` is not 0, so many numbers of FLAT rows are copied and multiplied at a time: as many rows' as fit into
 * a cache, so that kernels are read once for all of them.
 */

#include "gathering.h"
#include "packing.h"

static void of_rows(const struct rows *rows, const float *kernels, int count, int vectors, float *to,
                    const struct ending *ending)
{
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        vectors == VECTORS ? multiply_some(*rows, kernels, n, VECTORS, to, ending)                                            \
                           : multiply_some(*rows, kernels, n, VECTORS / 2, to, ending);                                        \
        return;
    switch (count) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if ROWS > 6
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
    }
}

void multiply(const struct rows *rows, const float *kernels, int count, int64_t channels, float *to,
              const struct ending *ending)
{
    of_rows(rows, kernels, count, channels > PANEL / 2 ? VECTORS : VECTORS / 2, to, ending);
}

enum { GATHERED, FLAT, IN_PLACE };

/* Where a tile's sums go, and what is added to them: places of a row of outputs, and of the next rows. */
struct goal {
    float *y[ROWS];
    const float *z[ROWS];
};

/* The places of a tile, which are fetched while its sums are computed. */
INLINE void find_goal(const struct step *s, float *arena, int64_t position, int count, int64_t channel,
                      struct goal *goal)
{
    struct spot at = spot_of(s, position);
    for (int r = 0; r < count; r++, at = next_spot(s, at)) {
        goal->y[r] = place(arena, &s->y, at.image, at.y, at.x) + channel;
        __builtin_prefetch(goal->y[r], 1, 3);
        __builtin_prefetch(goal->y[r] + PANEL - 1, 1, 3);
        if (s->z.image) {
            goal->z[r] = place(arena, &s->z, at.image, at.y, at.x) + channel;
            __builtin_prefetch(goal->z[r], 0, 3);
            __builtin_prefetch(goal->z[r] + PANEL - 1, 0, 3);
        }
    }
}

/* Sums of a whole panel to their places. */
INLINE void put_panel(const struct step *s, const struct goal *goal, int count, int64_t channel, const float *sums,
                      int added, int64_t activation)
{
    vec bias[VECTORS];
    UNROLL for (int v = 0; v < VECTORS; v++)
        bias[v] = s->bias ? load(s->bias + channel + v * LANES) : (vec){0};
    LOOP for (int r = 0; r < count; r++)
        UNROLL for (int v = 0; v < VECTORS; v++) {
            vec value = load(sums + r * PANEL + v * LANES) + bias[v];
            if (added)
                value += load(goal->z[r] + v * LANES);
            *(vec *)(goal->y[r] + v * LANES) = activated(s, value, channel + v * LANES, activation);
        }
}

/* Sums of `count` rows and one panel to their places. */
INLINE void put(const struct step *s, const struct goal *goal, int count, int64_t channel, const float *sums)
{
    if (channel + PANEL <= s->channels && s->activation <= RELU) {
        if (s->z.image && s->activation)
            put_panel(s, goal, count, channel, sums, 1, RELU);
        else if (s->z.image)
            put_panel(s, goal, count, channel, sums, 1, NONE);
        else if (s->activation)
            put_panel(s, goal, count, channel, sums, 0, RELU);
        else
            put_panel(s, goal, count, channel, sums, 0, NONE);
        return;
    }
    for (int r = 0; r < count; r++)
        LOOP for (int64_t c = 0; c < least(PANEL, s->channels - channel); c += LANES) {
            const float *z = s->z.image ? goal->z[r] - channel : 0;
            vec value = finished(s, load(sums + r * PANEL + c), channel + c, z);
            store(goal->y[r] + c, value, s->channels - channel - c);
        }
}

INLINE int in_rows(const struct step *s, const struct blob *b)
{
    return (s->h == 1 || b->row == s->w * b->col) && (s->images == 1 || b->image == s->h * s->w * b->col);
}

/* How the outputs of a step lie, which is the same for all tiles. */
struct layout {
    int even; /* all at the same distance from each other */
    int simple; /* nothing is done to sums but what an ending says */
    int64_t y_apart, z_apart;
    struct bend bend; /* of all channels */
};

INLINE struct layout layout_of(const struct step *s)
{
    const int single = s->w == 1 && s->h == 1;
    struct layout layout = {.simple = is_bent(s) && s->bias != 0, .bend = bend_of(s, 0)};
    layout.even = single || (in_rows(s, &s->y) && (!s->z.image || in_rows(s, &s->z)));
    layout.y_apart = single ? s->y.image : s->y.col;
    layout.z_apart = single ? s->z.image : s->z.col;
    return layout;
}

/* The ending of a tile and a panel, whose lines are fetched while its sums are computed. It is written where it is read: a
 * copy by vectors of what was written number by number waits until all of that has been stored. */
INLINE void find_ending(const struct step *s, const struct layout *layout, float *arena, int64_t position, int count,
                        int64_t channel, struct ending *ending)
{
    ending->bend = &layout->bend, ending->bias = s->bias + channel;
    ending->channel = channel, ending->channels = s->channels - channel;
    ending->y_apart = layout->y_apart, ending->z_apart = layout->z_apart;
    ending->z = 0;
    if (layout->even) {
        ending->y = arena + s->y.at + position * layout->y_apart + channel;
        if (s->z.image)
            ending->z = arena + s->z.at + position * layout->z_apart + channel;
    } else {
        struct spot at = spot_of(s, position);
        ending->y = place(arena, &s->y, at.image, at.y, at.x) + channel;
        if (s->z.image)
            ending->z = place(arena, &s->z, at.image, at.y, at.x) + channel;
    }
    LOOP for (int r = 0; r < count; r++) {
        __builtin_prefetch(ending->y + r * layout->y_apart, 1, 3);
        __builtin_prefetch(ending->y + r * layout->y_apart + PANEL - 1, 1, 3);
    }
    if (ending->z)
        LOOP for (int r = 0; r < count; r++) {
            __builtin_prefetch(ending->z + r * layout->z_apart, 0, 3);
            __builtin_prefetch(ending->z + r * layout->z_apart + PANEL - 1, 0, 3);
        }
}

/* One tile and one panel, from number `from` of the rows on. */
INLINE void compute(const struct step *s, const struct layout *layout, struct worker *w, struct rows *rows, int64_t from,
                    int64_t position, int count, int64_t panel, float *sums)
{
    int64_t length = s->kernel_h * s->kernel_w * s->in_channels, of_panel = length * PANEL;
    int64_t here = rows->segments * rows->length;
    const float *kernels = s->kernels + panel * of_panel + from * PANEL;
    rows->added = from > 0;
    if (from + here < length) {
        multiply(rows, kernels, count, s->channels - panel * PANEL, sums, 0);
        return;
    }
    if (layout->simple && (layout->even || position % s->w + count <= s->w)) {
        struct ending ending;
        find_ending(s, layout, w->arena, position, count, panel * PANEL, &ending);
        multiply(rows, kernels, count, ending.channels, sums, &ending);
        return;
    }
    struct goal goal;
    find_goal(s, w->arena, position, count, panel * PANEL, &goal);
    multiply(rows, kernels, count, s->channels - panel * PANEL, sums, 0);
    put(s, &goal, count, panel * PANEL, sums);
}

/* A row of outputs, its windows read where they lie: but for those that reach over the blob's edge, which are tiles of their
 * own at the row's beginning, and go with what is left over at its end. */
static void product_in_place(const struct step *s, struct worker *w)
{
    int64_t length = s->kernel_h * s->kernel_w * s->in_channels, panels = (s->channels + PANEL - 1) / PANEL;
    const struct layout layout = layout_of(s);
    const struct fetching nothing = {(const char *)s->kernels, 0}; /* each row of outputs reads all kernels again */
    float *sums = scratch_of(s, w), *gathered = sums + ROWS * PANEL;
    const int64_t over_left = least((s->left + s->stride_w - 1) / s->stride_w, s->w);
    const int64_t whole = (s->in_w - s->kernel_w + s->left) / s->stride_w + 1; /* windows up to the last whole one */
    const int64_t inside = least(whole, s->w); /* a deconvolution's pads leave some of them out */
    for (int64_t piece; (piece = take(w, s->images * s->h)) >= 0;)
        for (int64_t lo = 0, hi; lo < s->w; lo = hi) {
            hi = lo + tile_of(lo < over_left ? over_left - lo : s->w - lo);
            if (lo >= over_left && lo + ROWS <= inside)
                hi = lo + ROWS;
            int64_t position = piece * s->w + lo;
            int64_t y = piece % s->h * s->stride_h - s->top, x = lo * s->stride_w - s->left;
            int64_t down = y + (s->kernel_h - 1) * s->dilation_h, right = (hi - 1) * s->stride_w - s->left + s->kernel_w;
            struct rows rows = {gathered, spread(length), 1, 0, length, nothing, AT_ONCE, 0};
            if (y >= 0 && x >= 0 && down < s->in_h && right <= s->in_w) {
                const float *a = place(w->arena, &s->x, piece / s->h, y, x);
                int64_t across = s->kernel_w * s->in_channels;
                int64_t apart = s->stride_w * s->x.col, between = s->dilation_h * s->x.row;
                rows = (struct rows){a, apart, s->kernel_h, between, across, nothing, AT_ONCE, 0};
            } else {
                for (int64_t r = lo; r < hi; r++)
                    gather(s, w->arena, position + r - lo, gathered + (r - lo) * spread(length));
            }
            for (int64_t p = 0; p < panels; p++)
                compute(s, &layout, w, &rows, 0, position, (int)(hi - lo), p, sums);
        }
}

void product(const struct step *s, struct worker *w)
{
    if (s->shared == IN_PLACE) {
        product_in_place(s, w);
        return;
    }
    int64_t positions = s->images * s->h * s->w, length = s->kernel_h * s->kernel_w * s->in_channels;
    int64_t panels = (s->channels + PANEL - 1) / PANEL;
    int64_t blocks = (positions + s->block - 1) / s->block, groups = (panels + s->group - 1) / s->group;
    const struct layout layout = layout_of(s);
    const int64_t stretch = s->stretch ? s->stretch : length, kept = s->stretch ? s->block * s->group : ROWS;
    float *sums = scratch_of(s, w), *gathered = sums + kept * PANEL;
    int64_t last = -1;
    for (int64_t piece; (piece = take(w, blocks * groups)) >= 0;) {
        int64_t block = piece / groups, first = block * positions / blocks;
        int64_t rows = (block + 1) * positions / blocks - first; /* of all pieces as alike as can be */
        struct rows all = {gathered, spread(length), 1, 0, length, {0}, AT_ONCE, 0};
        if (s->shared == FLAT) {
            all.apart = s->h * s->w == 1 ? s->x.image : s->x.col;
            all.a = w->arena + s->x.at + first * all.apart;
        } else if (block != last) {
            for (int64_t r = 0; r < rows; r++)
                gather(s, w->arena, first + r, gathered + r * spread(length));
            last = block;
        }
        const int64_t panel = piece % groups * s->group;
        for (int64_t from = 0; from < length; from += stretch) {
            struct rows now = all;
            now.length = least(stretch, length - from);
            now.a += from;
            if (s->stretch && s->shared == FLAT) {
                now.a = gathered, now.apart = spread(stretch);
                for (int64_t r = 0; r < rows; r++)
                    copy(gathered + r * now.apart, all.a + r * all.apart + from, now.length);
            }
            const int64_t tiles = (rows + ROWS - 1) / ROWS;
            const float *numbers = now.a;
            for (int64_t p = panel; p < least(panel + s->group, panels); p++)
                for (int64_t t = 0, lo = 0, hi; lo < rows; t++, lo = hi) {
                    hi = lo + tile_of(rows - lo);
                    now.a = numbers + lo * now.apart;
                    now.next = part_of_next(s->kernels + (p + 1) * length * PANEL + from * PANEL, t, tiles, now.length);
                    float *own = s->stretch ? sums + ((p - panel) * s->block + lo) * PANEL : sums;
                    compute(s, &layout, w, &now, from, first + lo, (int)(hi - lo), p, own);
                }
        }
    }
}

/* To (panels, places, in_channels, PANEL). */
static void pack_panel(const struct packing *p, const float *from, int64_t panel)
{
    const int64_t places = p->u->length / p->in_channels;
    float *to = p->to + panel * p->u->length * PANEL;
    for (int64_t i = 0; i < places; i++)
        for (int64_t c = 0; c < p->in_channels; c++)
            copy(to + (i * p->in_channels + c) * PANEL, from + (c * places + i) * PANEL, PANEL);
}

void pack_product(const struct unpacked *u, int64_t in_channels, int threads, float *to)
{
    pack_parts(u, in_channels, PANEL, threads, to, pack_panel);
}
