/* Where the tiles of Winograd's filtering lie, and in which order those of a block are computed.
 *
 * Tiles with fewer outputs than the others, the last of a row or column, come last in a block. At each point lie the values
 * of those tiles' windows alone that need it, one behind the other, and later their products.
 */
#ifndef WINOGRAD_TILES_H
#define WINOGRAD_TILES_H

#include "step.h"
#include "winograd_points.h"

#include "tables.h" /* from how many channels on fewer points are worth while */

#define MOST_TILES 256 /* of a block: division.py makes none larger */

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

/* Outputs of a tile, m of each in the middle of a blob. */
struct extent {
    int rows, cols;
};

/* The outputs of the tile whose first one is at a spot. */
INLINE struct extent extent_of(struct form f, const struct step *s, struct spot at)
{
    return (struct extent){(int)least((s->h - at.y + s->dilation_h - 1) / s->dilation_h, f.m),
                           (int)least((s->w - at.x + s->dilation_w - 1) / s->dilation_w, f.m)};
}

/* A tile, or where there would be one: of a block's each is looked for once, as that takes a dozen divisions. */
struct tile {
    struct spot at;
    struct extent has;
};

INLINE struct tile tile_at(struct form f, const struct step *s, int64_t number)
{
    const struct spot at = spot_of(s, number, f.m, f.pieces);
    return (struct tile){at, extent_of(f, s, at)};
}

/* The order in which a block's tiles lie: `whole` ones first, and behind them how many of each point are before. */
struct order {
    int64_t whole;
    struct tile tile[MOST_TILES];
    int16_t before[MOST_TILES + 1][MOST * MOST];
};

/* How many of a block's tiles before the one at place `i` need a point. */
INLINE int64_t before(const struct order *order, int64_t i, int point)
{
    return i <= order->whole ? i : order->before[i - order->whole][point];
}

/* Put `tile` behind the `at` ones that have their place. */
INLINE void put_tile(struct form f, struct order *order, struct tile tile, int64_t at)
{
    int16_t *behind = order->before[at + 1 - order->whole];
    order->tile[at] = tile;
    for (int p = 0; p < f.n * f.n; p++)
        behind[p] = (int16_t)before(order, at, p);
    for (int u = 0; u < points_of(f, tile.has.rows); u++)
        for (int v = 0; v < points_of(f, tile.has.cols); v++)
            behind[point_of(f, tile.has.rows, u) * f.n + point_of(f, tile.has.cols, v)]++;
}

/* The order of a block's tiles; where kernels are in pieces all count as whole, and lie as they are. */
INLINE void arrange(struct form f, const struct step *s, int64_t first, int64_t count, struct order *order)
{
    struct tile shorter[MOST_TILES];
    int64_t some = 0;
    order->whole = 0;
    for (int64_t i = 0; i < count; i++) {
        const struct tile tile = tile_at(f, s, first + i);
        if (f.pieces == 1 && s->in_channels >= WORTH_CHANNELS && (tile.has.rows < f.m || tile.has.cols < f.m))
            shorter[some++] = tile;
        else
            order->tile[order->whole++] = tile;
    }
    for (int64_t i = 0; i < some; i++)
        put_tile(f, order, shorter[i], order->whole + i);
}

#endif
