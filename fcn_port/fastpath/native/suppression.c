/* Non-maximum suppression: converters/layers/boxes.py says what it is, and gives the same places, bit by bit. */

#include <stdint.h>

#include "vector.h"

/* A product that were added unrounded would be another overlap than Caffe's, on either side of a threshold. GCC does not
 * read this, but leaves a product alone that is used twice. */
#pragma STDC FP_CONTRACT OFF

/* (n,) each, which a vector may reach past: the sides of boxes in order of their scores, and their areas. */
struct boxes {
    const float *left, *top, *right, *bottom, *area;
    int64_t count;
    double pixels; /* that a box is wider than right - left */
    int64_t of_smaller; /* overlaps are parts of the smaller box, and not of both */
};

/* What is no number is both the least and the largest, as it is to PyTorch. */
INLINE vec lesser(vec a, vec b) { return choose((a < b) | (a != a), a, b); }
INLINE vec greater(vec a, vec b) { return choose((a > b) | (a != a), a, b); }

/* Raise `largest`, of the boxes behind the one at i, to their overlap with it; what is before them may change, too. */
static void overlap(const struct boxes *b, int64_t i, float *largest)
{
    const vec left = all_of(b->left[i]), top = all_of(b->top[i]), right = all_of(b->right[i]);
    const vec bottom = all_of(b->bottom[i]), area = all_of(b->area[i]), pixels = all_of((float)b->pixels), none = {0};
    for (int64_t j = (i + 1) / LANES * LANES; j < b->count; j += LANES) {
        vec width = lesser(right, load(b->right + j)) - greater(left, load(b->left + j)) + pixels;
        vec height = lesser(bottom, load(b->bottom + j)) - greater(top, load(b->top + j)) + pixels;
        vec inside = width * height, other = load(b->area + j);
        vec whole = area + other - inside;
        if (b->of_smaller)
            whole = lesser(area, other);
        vec part = choose((width > none) & (height > none), inside / whole, none);
        *(vec *)(largest + j) = greater(part, load(largest + j));
    }
}

/* Write 1 to `stays` of each box that overlaps none that stays by more than `threshold`, and to others 0.
 *
 * By as much is less than more only where `keep_equal`; each box that stays makes a threshold above 0.5 `eta` times as
 * large. `largest` is scratch of (n,), in whole vectors.
 */
void suppress(const struct boxes *b, double threshold, double eta, int keep_equal, float *largest, uint8_t *stays)
{
    float limit = (float)threshold;
    for (int64_t i = 0; i < b->count; i++)
        largest[i] = -1;
    for (int64_t i = 0; i < b->count; i++) {
        stays[i] = !(largest[i] > limit || (largest[i] == limit && !keep_equal) || largest[i] != largest[i]);
        if (!stays[i])
            continue;
        overlap(b, i, largest);
        if (eta < 1 && limit > 0.5f)
            limit *= (float)eta;
    }
}
