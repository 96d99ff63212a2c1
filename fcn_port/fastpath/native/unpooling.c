/* Maximum pooling that says where its maxima were, and its inverse, which puts values there. */

#include <math.h>

#include "windows.h"

/* To z the place of each maximum in its channel, row * width + column: of equal ones the first, of NaNs the last.
 * parameters: the row at which x begins in the whole blob. */
void pool_places(const struct step *s, struct worker *w)
{
    const int64_t begins = (int64_t)s->parameters[0];
    for (int64_t piece; (piece = take(w, s->images * s->h)) >= 0;) {
        struct windows at = row_of(s, piece);
        for (int64_t x = 0; x < s->w; x++) {
            int64_t left = x * s->stride_w - s->left;
            struct range cols = inside(left, s->kernel_w, s->dilation_w, s->in_w);
            const float *from = place(w->arena, &s->x, at.image, at.top, left);
            float *y = place(w->arena, &s->y, at.image, at.y, x), *z = place(w->arena, &s->z, at.image, at.y, x);
            int64_t first = (begins + at.top + at.rows.from * s->dilation_h) * s->in_w + left + cols.from * s->dilation_w;
            LOOP for (int64_t c = 0; c < s->channels; c += LANES) {
                vec greatest = (vec){0} - INFINITY;
                mask where = (mask){0} + (int)first;
                LOOP for (int64_t i = at.rows.from; i < at.rows.until; i++)
                    LOOP for (int64_t j = cols.from; j < cols.until; j++) {
                        vec value = load(from + i * s->dilation_h * s->x.row + j * s->dilation_w * s->x.col + c);
                        mask wins = (value > greatest) | (value != value);
                        int here = (int)((begins + at.top + i * s->dilation_h) * s->in_w + left + j * s->dilation_w);
                        greatest = choose(wins, value, greatest);
                        where = (where & ~wins) | (here & wins);
                    }
                store(y + c, greatest, s->channels - c);
                store(z + c, __builtin_convertvector(where, vec), s->channels - c);
            }
        }
    }
}

/* x to the places in z, zeros elsewhere. Some channels of an image are a piece: where places are the same, the last stays. */
void unpool(const struct step *s, struct worker *w)
{
    int64_t groups = (s->channels + LANES - 1) / LANES;
    int together = s->y.row == s->w * s->y.col;
    for (int64_t piece; (piece = take(w, s->images * groups)) >= 0;) {
        int64_t image = piece / groups, c = piece % groups * LANES, count = least(LANES, s->channels - c);
        float *y = place(w->arena, &s->y, image, 0, 0) + c;
        for (int64_t i = 0; i < s->h; i++)
            for (int64_t j = 0; j < s->w; j++)
                store(y + i * s->y.row + j * s->y.col, (vec){0}, count);
        for (int64_t i = 0; i < s->in_h; i++)
            for (int64_t j = 0; j < s->in_w; j++) {
                const float *x = place(w->arena, &s->x, image, i, j) + c, *z = place(w->arena, &s->z, image, i, j) + c;
                LOOP for (int64_t k = 0; k < count; k++) {
                    int64_t at = (int64_t)z[k];
                    y[k + (together ? at * s->y.col : at / s->w * s->y.row + at % s->w * s->y.col)] = x[k];
                }
            }
    }
}
