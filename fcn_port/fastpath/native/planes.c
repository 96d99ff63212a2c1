/* Outputs as their reader has them: blobs of a plan, whose channels lie side by side, written as planes, one after the other. */

#include "packing.h"

/* Planes (images, channels, h, w), which lie in order, of numbers so many floats apart. */
struct planes {
    const float *from;
    int64_t image, row, col, images, channels, h, w;
    int threads;
    float *to;
};

/* The first `count` floats of memory, which is not read beyond them. */
INLINE vec load_first(const float *from, int64_t count)
{
    if (count >= LANES)
        return load(from);
#ifdef __AVX512F__
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
#else
    float lanes[LANES] = {0};
    LOOP for (int64_t i = 0; i < count; i++)
        lanes[i] = from[i];
    return load(lanes);
#endif
}

#if LANES == 16
#define LOWS 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGHS 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif LANES == 8
#define LOWS 0, 8, 1, 9, 2, 10, 3, 11
#define HIGHS 4, 12, 5, 13, 6, 14, 7, 15
#else
#define LOWS 0, 4, 1, 5
#define HIGHS 2, 6, 3, 7
#endif
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (mask){__VA_ARGS__})
#endif

/* Rows as columns: each time all rows of one half are shuffled with those of the other, as cards are. */
INLINE void transpose(vec rows[LANES])
{
    vec shuffled[LANES];
    UNROLL for (int cards = 1; cards < LANES; cards *= 2) {
        UNROLL for (int i = 0; i < LANES / 2; i++) {
            shuffled[2 * i] = SHUFFLE(rows[i], rows[i + LANES / 2], LOWS);
            shuffled[2 * i + 1] = SHUFFLE(rows[i], rows[i + LANES / 2], HIGHS);
        }
        UNROLL for (int i = 0; i < LANES; i++)
            rows[i] = shuffled[i];
    }
}

enum { PIECE = 1024, AHEAD = 2 * SIDE }; /* pixels that are a piece of work, and that what is fetched lies ahead */

/* Some channels of some pixels of a row, LANES at most of each; `to` is where the first channel's lie. */
INLINE void turn(const float *from, int64_t col, int64_t pixels, int64_t channels, int64_t plane, float *to)
{
    vec square[LANES];
    UNROLL for (int i = 0; i < LANES; i++)
        square[i] = i < pixels ? load_first(from + i * col, channels) : (vec){0};
    transpose(square);
    UNROLL for (int c = 0; c < LANES; c++)
        if (c < channels)
            store(to + c * plane, square[c], pixels);
}

/* A line of channels, SIDE at most, of some pixels of a row. Neither what is read next nor what is written lies in the order of
 * memory, so that no processor fetches it by itself. */
INLINE void turn_line(const float *from, int64_t col, int64_t pixels, int64_t channels, int64_t plane, float *to)
{
    for (int64_t x = 0; x < pixels; x += SIDE) {
        LOOP for (int64_t i = 0; i < SIDE; i++) {
            __builtin_prefetch(from + (x + AHEAD + i) * col);
            __builtin_prefetch(to + least(i, channels - 1) * plane + x + AHEAD, 1);
        }
        LOOP for (int64_t i = x; i < least(x + SIDE, pixels); i += LANES)
            LOOP for (int64_t c = 0; c < channels; c += LANES) {
                if (i + LANES <= pixels && c + LANES <= channels)
                    turn(from + i * col + c, col, LANES, LANES, plane, to + c * plane + i);
                else
                    turn(from + i * col + c, col, least(pixels - i, LANES), least(channels - c, LANES), plane, to + c * plane + i);
            }
    }
}

/* One thread's share of the pieces: a line of channels, each for PIECE pixels of a row. */
static void turn_share(void *all, int number)
{
    const struct planes *p = all;
    const int64_t lines = (p->channels + SIDE - 1) / SIDE, parts = (p->w + PIECE - 1) / PIECE;
    const int64_t pieces = p->images * lines * p->h * parts, until = pieces * (number + 1) / p->threads;
    for (int64_t piece = pieces * number / p->threads; piece < until; piece++) {
        const int64_t x = piece % parts * PIECE, y = piece / parts % p->h, line = piece / parts / p->h;
        const int64_t image = line / lines, first = line % lines * SIDE, plane = p->h * p->w;
        const float *from = p->from + image * p->image + y * p->row + x * p->col + first;
        float *to = p->to + (image * p->channels + first) * plane + y * p->w + x;
        turn_line(from, p->col, least(p->w - x, PIECE), least(p->channels - first, SIDE), plane, to);
    }
}

/* `shape` is (images, channels, h, w), `apart` how many floats lie between two images, rows and columns. */
void planes(const float *from, const int64_t *shape, const int64_t *apart, int threads, float *to)
{
    struct planes all = {from, apart[0], apart[1], apart[2], shape[0], shape[1], shape[2], shape[3], threads, to};
    if (all.row == all.w * all.col) { /* one row of all pixels */
        all.w *= all.h;
        all.h = 1;
    }
    together(threads, turn_share, &all);
}
