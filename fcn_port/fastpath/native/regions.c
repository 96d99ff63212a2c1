/* Cells of regions: converters/layers/regions.py says what they are, and where along an axis they lie. */

#include <stdint.h>

#include "vector.h"

enum { LARGEST, MEAN, WEIGHTED };

/* (regions, count) each: the first pixel of a cell along an axis and the one behind its last, and what all `size` count. */
struct spans {
    const int64_t *first, *last;
    const float *weights;
    int64_t count, size;
};

struct regions {
    const float *images;
    int64_t image_step, channel_step, row_step, column_step; /* floats */
    const int64_t *numbers; /* the image of each region */
    int64_t count, channels;
    struct spans rows, columns;
    int64_t pooled, own; /* whether each cell has channels of its own */
};

/* One cell of one region; `image` is its first channel's, `step` floats between its channels. */
struct cell {
    const float *image;
    int64_t step, top, bottom, left, right;
    const float *down, *along;
};

/* So many numbers, `step` floats apart. */
INLINE vec numbers(const float *from, int64_t step, int64_t count)
{
    if (step == 1 && count == LANES)
        return load(from);
    vec found = {0};
    for (int64_t i = 0; i < count; i++)
        found[i] = from[i * step];
    return found;
}

/* The cell's value in so many channels. */
INLINE vec value(const struct regions *r, const struct cell *c, const float *image, int64_t count, int pooled)
{
    vec sum = {0};
    for (int64_t y = c->top; y < c->bottom; y++)
        for (int64_t x = c->left; x < c->right; x++) {
            vec pixel = numbers(image + y * r->row_step + x * r->column_step, c->step, count);
            if (pooled == WEIGHTED)
                sum = multiply_add(all_of(c->down[y] * c->along[x]), pixel, sum);
            else if (pooled == MEAN)
                sum += pixel;
            else if (y == c->top && x == c->left)
                sum = pixel;
            else
                sum = choose((pixel > sum) | (pixel != pixel), pixel, sum);
        }
    if (pooled == MEAN)
        sum /= (float)((c->bottom - c->top) * (c->right - c->left));
    return sum;
}

/* Write the cell's channels, 0 where it has no pixel. */
INLINE void fill(const struct regions *r, const struct cell *c, int pooled, float *to)
{
    const int empty = c->top >= c->bottom || c->left >= c->right;
    for (int64_t channel = 0; channel < r->channels; channel += LANES) {
        const int64_t count = least(r->channels - channel, LANES);
        vec found = {0};
        if (!empty)
            found = value(r, c, c->image + channel * c->step, count, pooled);
        store(to + channel, found, count);
    }
}

/* Write all cells, (regions, rows, columns, channels). */
void pool_regions(const struct regions *r, float *to)
{
    const int64_t rows = r->rows.count, columns = r->columns.count;
    for (int64_t region = 0; region < r->count; region++) {
        const float *image = r->images + r->numbers[region] * r->image_step;
        for (int64_t row = 0; row < rows; row++)
            for (int64_t column = 0; column < columns; column++, to += r->channels) {
                const int64_t i = region * rows + row, j = region * columns + column, own = row * columns + column;
                const struct cell cell = {
                    r->own ? image + own * r->channel_step : image, r->channel_step * (r->own ? rows * columns : 1),
                    r->rows.first[i], r->rows.last[i], r->columns.first[j], r->columns.last[j],
                    r->rows.weights + i * r->rows.size,
                    r->columns.weights + j * r->columns.size,
                };
                if (r->pooled == LARGEST)
                    fill(r, &cell, LARGEST, to);
                else if (r->pooled == MEAN)
                    fill(r, &cell, MEAN, to);
                else
                    fill(r, &cell, WEIGHTED, to);
            }
    }
}
