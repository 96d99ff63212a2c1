/* Outputs as their reader has them: blobs of a plan, whose channels lie side by side, written as planes, one after the other. */

#include "packing.h"

/* Planes (images, channels, h, w), which lie in order, of numbers so many floats apart. */
struct planes {
    const float *from;
    int64_t image, row, col, images, channels, h, w;
    int threads;
    float *to;
};

/* Some channels, SIDE at most, of some pixels of a row, SIDE at most; `to` is where the first channel's lie. */
INLINE void turn(const float *from, int64_t col, int64_t pixels, int64_t channels, int64_t plane, float *to)
{
    float square[SIDE][SIDE];
    for (int64_t i = 0; i < pixels; i++)
        for (int64_t c = 0; c < channels; c++)
            square[c][i] = from[i * col + c];
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < pixels; i++)
            to[c * plane + i] = square[c][i];
}

/* One thread's share: lines of channels, each for all pixels of an image. */
static void turn_share(void *all, int number)
{
    const struct planes *p = all;
    const int64_t lines = (p->channels + SIDE - 1) / SIDE, pieces = p->images * lines, plane = p->h * p->w;
    for (int64_t piece = pieces * number / p->threads; piece < pieces * (number + 1) / p->threads; piece++) {
        const int64_t image = piece / lines, first = piece % lines * SIDE, channels = least(p->channels - first, SIDE);
        float *to = p->to + (image * p->channels + first) * plane;
        for (int64_t y = 0; y < p->h; y++)
            for (int64_t x = 0; x < p->w; x += SIDE) {
                const float *from = p->from + image * p->image + y * p->row + x * p->col + first;
                const int64_t pixels = least(p->w - x, SIDE);
                if (pixels == SIDE && channels == SIDE)
                    turn(from, p->col, SIDE, SIDE, plane, to + y * p->w + x);
                else
                    turn(from, p->col, pixels, channels, plane, to + y * p->w + x);
            }
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
