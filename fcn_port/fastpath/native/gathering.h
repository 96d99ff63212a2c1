/* The windows of a convolution as rows of a matrix, in the order row, column, channel. */
#ifndef GATHERING_H
#define GATHERING_H

#include "step.h"

struct spot {
    int64_t image, y, x;
};

INLINE struct spot spot_of(const struct step *s, int64_t position)
{
    return (struct spot){position / (s->h * s->w), position / s->w % s->h, position % s->w};
}

/* The spot behind another one, without its divisions. */
INLINE struct spot next_spot(const struct step *s, struct spot at)
{
    if (++at.x == s->w) {
        at.x = 0;
        if (++at.y == s->h)
            at.y = 0, at.image++;
    }
    return at;
}

/* What output `position` reads, zeros around the blob included. */
INLINE void gather(const struct step *s, const float *arena, int64_t position, float *to)
{
    struct spot at = spot_of(s, position);
    int64_t c = s->in_channels, across = s->kernel_w * c;
    int64_t x0 = at.x * s->stride_w - s->left;
    for (int64_t i = 0; i < s->kernel_h; i++, to += across) {
        int64_t y = at.y * s->stride_h - s->top + i * s->dilation_h;
        if (y < 0 || y >= s->in_h) {
            clear(to, across);
            continue;
        }
        const float *row = arena + s->x.at + at.image * s->x.image + y * s->x.row;
        if (s->dilation_w == 1 && s->x.col == c) {
            int64_t from = least(most(-x0, 0), s->kernel_w), until = most(least(s->in_w - x0, s->kernel_w), from);
            clear(to, from * c);
            copy(to + from * c, row + (x0 + from) * c, (until - from) * c);
            clear(to + until * c, (s->kernel_w - until) * c);
            continue;
        }
        for (int64_t j = 0; j < s->kernel_w; j++) {
            int64_t x = x0 + j * s->dilation_w;
            if (x < 0 || x >= s->in_w)
                clear(to + j * c, c);
            else
                copy(to + j * c, row + x * s->x.col, c);
        }
    }
}

#endif
