/* The taps of windows that lie in a blob: what pooling and depthwise convolution share. */
#ifndef WINDOWS_H
#define WINDOWS_H

#include "step.h"

struct range {
    int64_t from, until;
};

/* The taps of a window that begins at `start` which lie in 0 ... length - 1. */
INLINE struct range inside(int64_t start, int64_t taps, int64_t dilation, int64_t length)
{
    int64_t from = start < 0 ? (-start + dilation - 1) / dilation : 0;
    int64_t until = start >= length ? 0 : (length - start + dilation - 1) / dilation;
    return (struct range){from, least(until, taps)};
}

/* The windows of one output row. */
struct windows {
    int64_t image, y, top;
    struct range rows;
};

INLINE struct windows row_of(const struct step *s, int64_t piece)
{
    int64_t image = piece / s->h, y = piece % s->h, top = y * s->stride_h - s->top;
    return (struct windows){image, y, top, inside(top, s->kernel_h, s->dilation_h, s->in_h)};
}

#endif
