/* The C code without Python: steps that native_cases.py made, over blobs of their own, beside plain loops in double
 * precision. Reads cases from its input; ends with status 1 after the first number that is wrong.
 *
 * Each blob, the packed weights and the scratch are allocated by themselves, no larger than the plan makes them, so that
 * a sanitizer sees every access beyond one. What lies between the channels of a blob is NaN where it is read, and is
 * looked at again where it must not be written.
 */

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "packing.h"
#include "step.h"

#include "cases.h" /* the numbers of kinds */

#define MARK 12345.0f
#define APART 3e-5 /* of a top's largest value */
#define TIMES 3 /* that a step follows itself: threads may be steps ahead of each other */

struct job {
    struct step step;
    int64_t phases, packed, room, bias, slopes, threads; /* floats of weights; 0 where there are none */
};

void work(const struct step *steps, int count, float *arena, struct phase *phases, int number);
void run(const struct step *steps, int count, float *arena, struct phase *phases, int count_phases, int threads);
int panel(void);
int lanes(void);
int most_rows(void);
int has_tiles(void);

static uint32_t seed;

static float drawn(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / (1 << 23) - 1;
}

static float *floats(int64_t count, float value)
{
    float *memory = malloc((size_t)most(count, 1) * sizeof *memory);
    if (!memory)
        exit(3);
    for (int64_t i = 0; i < count; i++)
        memory[i] = value;
    return memory;
}

static float *drawn_floats(int64_t count)
{
    float *memory = floats(count, 0);
    for (int64_t i = 0; i < count; i++)
        memory[i] = drawn();
    return memory;
}

/* A blob's memory, and the place of each of its numbers in it. */
struct image {
    struct blob blob;
    int64_t n, h, w, c, apart, size; /* `apart`: floats between channels */
    float *memory;
};

static int64_t place_in(const struct image *b, int64_t n, int64_t y, int64_t x, int64_t c)
{
    return n * b->blob.image + y * b->blob.row + x * b->blob.col + c * b->apart;
}

#define EACH(b)                                                                                                        \
    for (int64_t n = 0; n < (b)->n; n++)                                                                               \
        for (int64_t y = 0; y < (b)->h; y++)                                                                           \
            for (int64_t x = 0; x < (b)->w; x++)                                                                       \
                for (int64_t c = 0; c < (b)->c; c++)

static struct image image_of(struct blob blob, int64_t n, int64_t h, int64_t w, int64_t c, int64_t apart, int is_read,
                             float between)
{
    struct image b = {blob, n, h, w, c, apart, 0, 0};
    b.size = place_in(&b, n - 1, h - 1, w - 1, c - 1) + 1 + (is_read ? LANES - 1 : 0);
    b.memory = floats(b.size, between);
    return b;
}

static struct blob seen_from(const float *arena, const struct image *b)
{
    struct blob seen = b->blob;
    seen.at = ((intptr_t)b->memory - (intptr_t)arena) / (intptr_t)sizeof *arena;
    return seen;
}

static float at(const struct image *b, int64_t n, int64_t y, int64_t x, int64_t c)
{
    return b->memory[place_in(b, n, y, x, c)];
}

/* The plain loops. */

struct data {
    const struct step *s;
    int64_t kind;
    struct image x, z;
    const float *weights, *bias, *slopes; /* (features, channels, height, width) */
    const double *factors;
};

static double activated_plainly(const struct data *d, double value, int64_t c)
{
    double p = d->s->parameters[0];
    switch (d->s->activation) {
    case RELU: return value < 0 ? 0 : value;
    case LEAKY: return value < 0 ? value * p : value;
    case PRELU: return value < 0 ? value * d->slopes[c] : value;
    case CLIP: return fmin(fmax(value, p), d->s->parameters[1]);
    case ELU: return value < 0 ? p * expm1(value) : value;
    case SIGMOID: return 1 / (1 + exp(-value));
    case TANH: return tanh(value);
    case SWISH: return value / (1 + exp(-p * value));
    case HARD_SIGMOID: return fmin(fmax(p * value + d->s->parameters[1], 0), d->s->parameters[2]);
    case HARD_SWISH: return value * fmin(fmax(p * value + d->s->parameters[1], 0), d->s->parameters[2]) / d->s->parameters[2];
    case ABSOLUTE: return fabs(value);
    case MISH: return value * tanh(log1p(exp(value)));
    default: return value;
    }
}

static double finished_plainly(const struct data *d, double value, int64_t n, int64_t y, int64_t x, int64_t c)
{
    if (d->bias)
        value += d->bias[c];
    if (d->s->z.image)
        value += at(&d->z, n, y, x, c);
    return activated_plainly(d, value, c);
}

/* A window's greatest value and its place, or its sum and the taps that count. */
static void look(const struct data *d, int64_t n, int64_t y, int64_t x, int64_t c, double *value, double *other)
{
    const struct step *s = d->s;
    int64_t is_average = d->kind == KIND_pool_average, count = 0;
    *value = is_average ? 0 : -INFINITY;
    for (int64_t i = 0; i < s->kernel_h; i++)
        for (int64_t j = 0; j < s->kernel_w; j++) {
            int64_t v = y * s->stride_h - s->top + i * s->dilation_h, u = x * s->stride_w - s->left + j * s->dilation_w;
            int is_inside = v >= 0 && v < s->in_h && u >= 0 && u < s->in_w;
            count += s->shared ? is_inside : v < s->in_h + s->group && u < s->in_w + s->block;
            if (!is_inside)
                continue;
            double here = at(&d->x, n, v, u, c);
            if (is_average)
                *value += here;
            else if (here > *value)
                *value = here, *other = (double)(v * s->in_w + u);
        }
    if (is_average)
        *value /= (double)count;
}

static double convolved(const struct data *d, int64_t n, int64_t y, int64_t x, int64_t o)
{
    const struct step *s = d->s;
    int64_t channels = d->kind == KIND_depthwise ? 1 : s->in_channels;
    const float *weight = d->weights + o * channels * s->kernel_h * s->kernel_w;
    double sum = 0;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < s->kernel_h; i++)
            for (int64_t j = 0; j < s->kernel_w; j++, weight++) {
                int64_t v = y * s->stride_h - s->top + i * s->dilation_h;
                int64_t u = x * s->stride_w - s->left + j * s->dilation_w;
                if (v >= 0 && v < s->in_h && u >= 0 && u < s->in_w)
                    sum += (double)*weight * at(&d->x, n, v, u, d->kind == KIND_depthwise ? o : c);
            }
    return d->factors ? sum * d->factors[o] : sum;
}

static double of_neighbours(const struct data *d, int64_t n, int64_t y, int64_t x, int64_t c)
{
    double sum = 0;
    for (int64_t i = c - d->s->kernel_w / 2; i <= c + d->s->kernel_w / 2; i++)
        if (i >= 0 && i < d->s->channels)
            sum += pow(at(&d->x, n, y, x, i), 2);
    return at(&d->x, n, y, x, c) / pow(d->s->parameters[1] + d->s->parameters[0] * sum, d->s->parameters[2]);
}

static double of_places_around(const struct data *d, int64_t n, int64_t y, int64_t x, int64_t c)
{
    const struct step *s = d->s;
    double sum = 0;
    for (int64_t v = y - s->kernel_h / 2; v <= y + s->kernel_h / 2; v++)
        for (int64_t u = x - s->kernel_w / 2; u <= x + s->kernel_w / 2; u++)
            if (v >= 0 && v < s->in_h && u >= 0 && u < s->in_w)
                sum += pow(at(&d->x, n, v, u, c), 2);
    return at(&d->x, n, y, x, c) / pow(s->parameters[1] + s->parameters[0] * sum, s->parameters[2]);
}

static double of_unit(const struct data *d, int64_t n, int64_t y, int64_t x, int64_t c)
{
    const struct step *s = d->s;
    double sum = s->parameters[0];
    for (int64_t v = s->shared ? 0 : y; v < (s->shared ? s->h : y + 1); v++)
        for (int64_t u = s->shared ? 0 : x; u < (s->shared ? s->w : x + 1); u++)
            for (int64_t i = 0; i < s->channels; i++)
                sum += pow(at(&d->x, n, v, u, i), 2);
    return at(&d->x, n, y, x, c) / sqrt(sum) * d->weights[c];
}

static double standardized(const struct data *d, int64_t n, int64_t y, int64_t x, int64_t c)
{
    const struct step *s = d->s;
    double sum = 0, squares = 0, count = (double)(s->group * s->h * s->w), eps = s->parameters[3];
    for (int64_t image = n / s->group * s->group; image < (n / s->group + 1) * s->group; image++)
        for (int64_t v = 0; v < s->h; v++)
            for (int64_t u = 0; u < s->w; u++) {
                double value = at(&d->x, image, v, u, c);
                sum += value, squares += value * value;
            }
    double mean = sum / count, variance = squares / count - mean * mean;
    double value = (at(&d->x, n, y, x, c) - mean) / (s->shared ? sqrt(variance) + eps : sqrt(variance + eps));
    return finished_plainly(d, d->weights ? value * d->weights[c] : value, n, y, x, c);
}

static double share_of_sum(const struct data *d, int64_t n, int64_t y, int64_t x, int64_t c)
{
    double sum = 0;
    for (int64_t i = 0; i < d->s->channels; i++)
        sum += exp((double)at(&d->x, n, y, x, i) - at(&d->x, n, y, x, c));
    return 1 / sum;
}

/* The last of the greatest channels, or its value. */
static double greatest_of_all(const struct data *d, int64_t n, int64_t y, int64_t x)
{
    int64_t found = 0;
    for (int64_t i = 1; i < d->s->in_channels; i++)
        if (at(&d->x, n, y, x, i) >= at(&d->x, n, y, x, found))
            found = i;
    return d->s->shared ? at(&d->x, n, y, x, found) : (double)found;
}

static double of_two(const struct data *d, int64_t n, int64_t y, int64_t x, int64_t c)
{
    double value = (double)at(&d->x, n, y, x, c) * (d->weights ? d->weights[c] : 1);
    if (d->s->shared == 0)
        return finished_plainly(d, value, n, y, x, c);
    double other = at(&d->z, n, y, x, c);
    return activated_plainly(d, d->s->shared == 1 ? value * other : fmax(value, other), c);
}

/* The one place of a top that an unpooling has put a value to, the last of equal ones; else 0. */
static double unpooled(const struct data *d, int64_t n, int64_t y, int64_t x, int64_t c)
{
    double value = 0;
    for (int64_t v = 0; v < d->s->in_h; v++)
        for (int64_t u = 0; u < d->s->in_w; u++)
            if (at(&d->z, n, v, u, c) == (float)(y * d->s->w + x))
                value = at(&d->x, n, v, u, c);
    return value;
}

/* The sum of the inputs whose windows an output lies in. */
static double enlarged(const struct data *d, int64_t n, int64_t y, int64_t x, int64_t c)
{
    const struct step *s = d->s;
    double sum = 0;
    for (int64_t v = 0; v < s->in_h; v++)
        for (int64_t u = 0; u < s->in_w; u++) {
            int64_t i = y + s->top - v * s->stride_h, j = x + s->left - u * s->stride_w;
            if (i >= 0 && i < s->kernel_h && j >= 0 && j < s->kernel_w)
                sum += (double)d->weights[(c * s->kernel_h + i) * s->kernel_w + j] * at(&d->x, n, v, u, c);
        }
    return sum;
}

static double plainly(const struct data *d, int64_t n, int64_t y, int64_t x, int64_t c)
{
    double value, other = 0;
    switch (d->kind) {
    case KIND_normalize: return of_neighbours(d, n, y, x, c);
    case KIND_normalize_within: return of_places_around(d, n, y, x, c);
    case KIND_unit: return of_unit(d, n, y, x, c);
    case KIND_standardize: return standardized(d, n, y, x, c);
    case KIND_softmax: return share_of_sum(d, n, y, x, c);
    case KIND_largest: return greatest_of_all(d, n, y, x);
    case KIND_pointwise: return of_two(d, n, y, x, c);
    case KIND_unpool: return unpooled(d, n, y, x, c);
    case KIND_pixels: return at(&d->x, n, y, x, c);
    case KIND_upsample: return finished_plainly(d, enlarged(d, n, y, x, c), n, y, x, c);
    case KIND_pool_max:
        look(d, n, y, x, c, &value, &other);
        return activated_plainly(d, d->s->z.image ? fmax(value, at(&d->z, n, y, x, c)) : value, c);
    case KIND_pool_average:
        look(d, n, y, x, c, &value, &other);
        return finished_plainly(d, value, n, y, x, c);
    case KIND_pool_places:
        look(d, n, y, x, c, &value, &other);
        return value;
    default: return finished_plainly(d, convolved(d, n, y, x, c), n, y, x, c);
    }
}

/* Running a step. */

struct call {
    const struct step *steps;
    float *arena;
    struct phase *phases;
    int number;
};

static void *called(void *argument)
{
    struct call *c = argument;
    work(c->steps, TIMES, c->arena, c->phases, c->number);
    return 0;
}

static void by_threads(const struct step *steps, float *arena, struct phase *phases, int count)
{
    pthread_t threads[16];
    struct call calls[16];
    for (int i = 0; i < count; i++) {
        calls[i] = (struct call){steps, arena, phases, i};
        if (pthread_create(threads + i, 0, called, calls + i))
            exit(3);
    }
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], 0);
}

/* What lies in y is what the plain loops give, and what lies between is as it was. `what`: 1 for the places of maxima. */
static int is_right(const struct data *d, const struct image *y_image, int what, const char *name)
{
    double largest = 0, apart = 0;
    char *is_output = calloc((size_t)y_image->size, 1);
    EACH(y_image) {
        double value = 0, other = 0;
        int64_t place = place_in(y_image, n, y, x, c);
        is_output[place] = 1;
        if (what)
            look(d, n, y, x, c, &other, &value);
        else
            value = plainly(d, n, y, x, c);
        double off = fabs(y_image->memory[place] - value);
        largest = fmax(largest, fabs(value));
        apart = off <= apart || isnan(apart) ? apart : off; /* NaN counts, wherever it is */
    }
    int fine = apart <= (what ? 0 : APART * fmax(largest, 1e-3));
    if (!fine)
        fprintf(stderr, "%s: %g apart, of %g at most\n", name, apart, largest);
    for (int64_t i = 0; i < y_image->size; i++)
        if (!is_output[i] && y_image->memory[i] != MARK) {
            fprintf(stderr, "%s: float %ld of its top's memory is none of its own\n", name, (long)i);
            fine = 0;
            break;
        }
    free(is_output);
    return fine;
}

/* True for a kind whose weights are read as they are. */
static int is_plain_kind(int64_t kind)
{
    return kind == KIND_pointwise || kind == KIND_upsample || kind == KIND_unit || kind == KIND_standardize;
}

static const float *packed_of(const struct job *job, const float *weights, const double *factors)
{
    const struct step *s = &job->step;
    int64_t taps = most(s->kernel_h * s->kernel_w, 1), across = job->packed / taps;
    float *to = floats(job->packed, 0);
    if (s->kind == KIND_depthwise) {
        for (int64_t c = 0; c < s->channels; c++)
            for (int64_t t = 0; t < taps; t++)
                to[t * across + c] = weights[c * taps + t];
    } else if (is_plain_kind(s->kind)) {
        memcpy(to, weights, (size_t)job->packed * sizeof *to);
    } else {
        float *room = floats(job->room, NAN);
        struct unpacked u = {weights, factors, s->channels, s->in_channels * taps, job->room / (s->in_channels * taps), room};
        PACK(s->kind, &u, s->in_channels, to)
        free(room);
    }
    return to;
}

static int try(const struct job *job, int number)
{
    struct step s = job->step;
    const char *name = NAMES[s.kind];
    int is_pooling = s.kind == KIND_pool_max || s.kind == KIND_pool_places, has_z = s.z.image != 0;
    int is_plain = is_plain_kind(s.kind);
    int is_product = s.kind != KIND_depthwise && !is_plain && job->packed;
    struct data d = {.s = &s, .kind = s.kind};
    seed = (uint32_t)number;
    int are_planes = s.kind == KIND_pixels;
    d.x = image_of(s.x, s.images, s.in_h, s.in_w, s.in_channels, are_planes ? s.in_h * s.in_w : 1, !are_planes, NAN);
    EACH(&d.x) d.x.memory[place_in(&d.x, n, y, x, c)] = is_pooling ? (float)(int)(4 * drawn()) : drawn();
    struct image top = image_of(s.y, s.images, s.h, s.w, s.channels, s.kind == KIND_upsample ? s.group : 1, 0, MARK);
    if (s.kind == KIND_unpool) {
        d.z = image_of(s.z, s.images, s.in_h, s.in_w, s.channels, 1, 1, NAN);
        EACH(&d.z) d.z.memory[place_in(&d.z, n, y, x, c)] = (float)(int64_t)((drawn() + 1) / 2.001 * (double)(s.h * s.w));
    } else if (has_z) {
        d.z = image_of(s.z, s.images, s.h, s.w, s.channels, 1, s.kind != KIND_pool_places, s.kind == KIND_pool_places ? MARK : NAN);
        if (s.kind != KIND_pool_places)
            EACH(&d.z) d.z.memory[place_in(&d.z, n, y, x, c)] = drawn();
    }
    int64_t length = s.kind == KIND_depthwise ? s.kernel_h * s.kernel_w : s.in_channels * s.kernel_h * s.kernel_w;
    float *weights = job->packed ? drawn_floats(is_plain ? job->packed : s.channels * length) : 0;
    float *bias = job->bias ? drawn_floats(job->bias) : 0, *slopes = job->slopes ? drawn_floats(job->slopes) : 0;
    double factors[4096];
    for (int64_t c = 0; c < least(s.channels, 4096); c++)
        factors[c] = 1 + drawn() / 2;
    d.weights = weights, d.bias = bias, d.slopes = slopes;
    d.factors = is_product && number % 2 ? factors : 0;
    const float *packed = job->packed ? packed_of(job, weights, d.factors) : 0;
    s.kernels = packed, s.bias = bias, s.slopes = slopes;

    float *arena = floats(s.scratch + job->threads * s.scratch_apart, NAN);
    int count = TIMES * (int)job->phases;
    struct phase *phases = malloc((size_t)count * sizeof *phases);
    s.x = seen_from(arena, &d.x), s.y = seen_from(arena, &top);
    if (has_z)
        s.z = seen_from(arena, &d.z);
    struct step steps[TIMES];
    for (int i = 0; i < TIMES; i++)
        steps[i] = s;
    int fine = 1;
    for (int turn = 0; fine && turn < 2; turn++) { /* by threads of our own, and as a plan's are run */
        EACH(&top) top.memory[place_in(&top, n, y, x, c)] = NAN;
        memset((void *)phases, 0, (size_t)count * sizeof *phases);
        if (turn == 0)
            by_threads(steps, arena, phases, (int)job->threads);
        else
            run(steps, TIMES, arena, phases, count, (int)job->threads);
        fine = is_right(&d, &top, 0, name);
        if (s.kind == KIND_pool_places)
            fine &= is_right(&d, &d.z, 1, name);
    }
    free(d.x.memory), free(d.z.memory), free(top.memory), free(weights), free(bias), free(slopes);
    free((void *)packed), free(arena), free((void *)phases);
    return fine;
}

struct boxes {
    const float *left, *top, *right, *bottom, *area;
    int64_t count;
    double pixels;
    int64_t of_smaller;
};

void suppress(const struct boxes *b, double threshold, double eta, int keep_equal, float *largest, uint8_t *stays);

/* Boxes on a grid, so that no overlap is a matter of rounding: those that stay are those that a plain loop keeps. */
static int try_boxes(int count)
{
    int64_t whole = (count + LANES - 1) / LANES * LANES;
    float *sides[5], *largest = floats(whole, NAN);
    uint8_t *stays = malloc((size_t)count);
    for (int side = 0; side < 5; side++)
        sides[side] = floats(whole, 0);
    for (int i = 0; i < count; i++) {
        for (int axis = 0; axis < 2; axis++) {
            sides[axis][i] = floorf(8 + 8 * drawn());
            sides[axis + 2][i] = sides[axis][i] + floorf(5 + 4 * drawn());
        }
        sides[4][i] = (sides[2][i] - sides[0][i]) * (sides[3][i] - sides[1][i]);
    }
    struct boxes b = {sides[0], sides[1], sides[2], sides[3], sides[4], count, 0, 0};
    suppress(&b, 0.4, 1, 1, largest, stays);
    int fine = 1;
    for (int i = 0; fine && i < count; i++) {
        int expected = 1;
        for (int k = 0; k < i; k++) {
            double width = fmin(b.right[i], b.right[k]) - fmax(b.left[i], b.left[k]);
            double height = fmin(b.bottom[i], b.bottom[k]) - fmax(b.top[i], b.top[k]);
            double inside = width > 0 && height > 0 ? width * height : 0;
            expected &= !stays[k] || inside <= 0.4 * (b.area[i] + b.area[k] - inside);
        }
        fine = stays[i] == expected;
    }
    for (int side = 0; side < 5; side++)
        free(sides[side]);
    free(largest), free(stays);
    return fine;
}

struct spans {
    const int64_t *first, *last;
    const float *weights;
    int64_t count, size;
};

struct regions {
    const float *images;
    int64_t image_step, channel_step, row_step, column_step;
    const int64_t *numbers;
    int64_t count, channels;
    struct spans rows, columns;
    int64_t pooled, own;
};

void pool_regions(const struct regions *r, float *to);

/* `cells` of each of some regions, of 0 to 3 places of `size`, which count a half each. */
static struct spans draw_spans(int regions, int cells, int size, int weighted)
{
    int64_t *first = malloc(sizeof *first * (size_t)(regions * cells)), *last = malloc(sizeof *last * (size_t)(regions * cells));
    for (int i = 0; i < regions * cells; i++) {
        first[i] = (int64_t)((drawn() + 1) / 2 * (float)size);
        last[i] = first[i] + (int64_t)(2 + 2 * drawn());
        last[i] = last[i] < size ? last[i] : size;
    }
    return (struct spans){first, last, floats(regions * cells * size, 0.5f), cells, weighted ? size : 0};
}

/* Small whole numbers, so that no sum is rounded: what a plain loop gives; channels side by side, or in planes. */
static int try_regions(int channels, int pooled, int own, int planes)
{
    enum { REGIONS = 3, ROWS_OF_CELLS = 2, COLUMNS = 3, HIGH = 5, WIDE = 4 };
    int cells = ROWS_OF_CELLS * COLUMNS, all = own ? channels * cells : channels, count = REGIONS * cells * channels;
    float *images = floats(2 * all * HIGH * WIDE, 0), *to = floats(count, NAN), *at = to;
    for (int i = 0; i < 2 * all * HIGH * WIDE; i++)
        images[i] = floorf(8 * drawn());
    const int64_t numbers[REGIONS] = {1, 0, 1};
    struct regions r = {images, all * HIGH * WIDE, 1, WIDE * all, all, numbers, REGIONS, channels,
        draw_spans(REGIONS, ROWS_OF_CELLS, HIGH, pooled == 2), draw_spans(REGIONS, COLUMNS, WIDE, pooled == 2), pooled, own};
    if (planes)
        r.channel_step = HIGH * WIDE, r.row_step = WIDE, r.column_step = 1;
    pool_regions(&r, to);
    int fine = 1;
    for (int region = 0; region < REGIONS; region++)
        for (int cell = 0; cell < cells; cell++)
            for (int channel = 0; channel < channels; channel++) {
                int i = region * ROWS_OF_CELLS + cell / COLUMNS, j = region * COLUMNS + cell % COLUMNS, pixels = 0;
                const float *image = images + numbers[region] * r.image_step + (own ? channel * cells + cell : channel) * r.channel_step;
                float sum = 0, largest = 0;
                for (int64_t y = r.rows.first[i]; y < r.rows.last[i]; y++)
                    for (int64_t x = r.columns.first[j]; x < r.columns.last[j]; x++) {
                        float pixel = image[y * r.row_step + x * r.column_step];
                        largest = !pixels++ || pixel > largest ? pixel : largest;
                        sum += pixel;
                    }
                float expected = pooled == 0 ? largest : pooled == 1 ? (pixels ? sum / (float)pixels : 0) : 0.25f * sum;
                fine &= *at++ == expected;
            }
    for (int axis = 0; axis < 2; axis++) {
        struct spans *of = axis ? &r.rows : &r.columns;
        free((void *)of->first), free((void *)of->last), free((void *)of->weights);
    }
    free(images), free(to);
    return fine;
}

/* Numbers from all over a blob, by tables of distances of which two places may have the same. */
static int try_move(int images, int h, int w, int channels, int apart)
{
    int count = images + h + w + channels, pixels = images * h * w, fine = 1;
    int32_t *table = malloc(sizeof *table * (size_t)count);
    for (int i = 0; i < count; i++)
        table[i] = (int32_t)(50 + 50 * drawn());
    for (int i = count - channels + 1; i < count && channels % 3; i++) /* often side by side */
        table[i] = table[i - 1] + 1;
    int64_t size = 440, wide = channels * apart;
    float *arena = drawn_floats(size + pixels * wide);
    for (int64_t i = 0; i < pixels * wide; i++)
        arena[size + i] = MARK;
    struct step s = {.kind = KIND_move, .y = {size, h * w * wide, w * wide, wide}, .images = images, .h = h, .w = w};
    s.channels = channels, s.group = apart, s.block = 1 + h % 3, s.kernels = (const float *)table;
    struct phase phase;
    run(&s, 1, arena, &phase, 1, 1);
    for (int64_t i = 0; i < pixels * wide; i++) {
        int64_t pixel = i / wide, c = i % wide / apart, place = table[pixel / (h * w)] + table[images + pixel / w % h];
        place += table[images + h + pixel % w] + table[images + h + w + c];
        fine &= arena[size + i] == (i % apart ? MARK : arena[place]);
    }
    free(table), free(arena);
    return fine;
}

/* Pixels that are mixtures of four, to another size, with numbers between and behind the channels that stay as they are. */
static int try_resample(int images, int h, int w, int channels, int by_difference)
{
    int in_h = 1 + h % 5, in_w = 2 + w % 4, fine = 1;
    float *table = malloc(sizeof *table * (size_t)(3 * (h + w)));
    int32_t *pixels = (int32_t *)table;
    for (int i = 0; i < 2 * (h + w); i++)
        pixels[i] = (int32_t)(fabs(drawn()) * 1000) % (i < 2 * h ? in_h : in_w);
    for (int i = 2 * (h + w); i < 3 * (h + w); i++)
        table[i] = (float)fabs(drawn());
    int64_t wide = channels + 3, size = images * in_h * in_w * wide, made = images * h * w * wide;
    float *arena = drawn_floats(size + made + 64);
    for (int64_t i = 0; i < made; i++)
        arena[size + i] = MARK;
    struct step s = {.kind = KIND_resample, .x = {0, in_h * in_w * wide, in_w * wide, wide}, .images = images, .h = h};
    s.y = (struct blob){size, h * w * wide, w * wide, wide}, s.w = w, s.in_h = in_h, s.in_w = in_w;
    s.channels = s.in_channels = channels, s.shared = by_difference, s.kernels = table;
    struct phase phase;
    run(&s, 1, arena, &phase, 1, 1);
    for (int64_t i = 0; i < made; i++) {
        int64_t image = i / wide / w / h, y = i / wide / w % h, x = i / wide % w, c = i % wide;
        const float *from = arena + image * s.x.image + c;
        double rows[2], down = table[2 * (h + w) + y], across = table[2 * (h + w) + h + x];
        for (int k = 0; k < 2; k++) {
            const float *row = from + pixels[k * h + y] * s.x.row;
            rows[k] = row[pixels[2 * h + x] * wide] * (1 - across) + row[pixels[2 * h + w + x] * wide] * across;
        }
        double right = rows[0] * (1 - down) + rows[1] * down;
        fine &= c < channels ? fabs(arena[size + i] - right) < 1e-5 : arena[size + i] == MARK;
    }
    free(table), free(arena);
    return fine;
}

static double own_sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* Units over time, `gates` of them each, that keep what z says of the step before; by one thread, in phases or in one piece. */
static int try_recurrent(int steps, int streams, int units, int gates, int in_phases)
{
    int wide = gates * units, blocks = (units + lanes() - 1) / lanes(), rounded = blocks * lanes(), fine = 1;
    float *kernels = calloc((size_t)(blocks * units * gates * lanes()), sizeof *kernels);
    size_t count = (size_t)(streams * units);
    float *weights = drawn_floats(wide * units), *h = calloc(count, sizeof *h), *next = malloc(count * sizeof *next);
    double *cells = calloc(count, sizeof *cells);
    for (int o = 0; o < wide; o++)
        for (int c = 0; c < units; c++) {
            int unit = o % units, gate = o / units;
            kernels[((unit / lanes() * units + c) * gates + gate) * lanes() + unit % lanes()] = weights[o * units + c];
        }
    int64_t keeps = steps * streams * wide + 64, top = keeps + steps * streams;
    int64_t common = top + steps * streams * (units + 1) + 64;
    float *arena = drawn_floats(common + streams * rounded + 64);
    for (int64_t i = top; i < common; i++)
        arena[i] = MARK;
    struct step s = {.kind = KIND_recurrent, .x = {0, streams * wide, streams * wide, wide}, .images = steps, .h = 1};
    s.y = (struct blob){top, streams * (units + 1), streams * (units + 1), units + 1};
    s.z = (struct blob){keeps, streams, streams, 1}, s.w = streams, s.in_w = streams, s.in_h = 1;
    s.channels = units, s.in_channels = wide, s.group = gates, s.block = in_phases, s.kernels = kernels, s.common = common;
    struct phase *phases = malloc(sizeof *phases * (size_t)steps);
    run(&s, 1, arena, phases, in_phases ? steps : 1, 1);
    for (int t = 0; t < steps; t++) {
        for (int n = 0; n < streams; n++)
            for (int u = 0; u < units; u++) {
                double sums[4], keep = arena[keeps + t * streams + n];
                for (int g = 0; g < gates; g++) {
                    sums[g] = arena[(t * streams + n) * wide + g * units + u];
                    for (int c = 0; c < units; c++)
                        sums[g] += keep * h[n * units + c] * weights[(g * units + u) * units + c];
                }
                double *cell = cells + n * units + u, output = tanh(sums[0]);
                if (gates == 4) {
                    *cell = keep * own_sigmoid(sums[1]) * *cell + own_sigmoid(sums[0]) * tanh(sums[3]);
                    output = own_sigmoid(sums[2]) * tanh(*cell);
                }
                next[n * units + u] = (float)output;
                fine &= fabs(arena[top + (t * streams + n) * (units + 1) + u] - output) < 1e-4;
            }
        for (int n = 0; n < streams; n++)
            fine &= arena[top + (t * streams + n) * (units + 1) + units] == MARK;
        memcpy(h, next, count * sizeof *h);
    }
    for (int64_t i = top + steps * streams * (units + 1); i < common; i++)
        fine &= arena[i] == MARK; /* the cells begin behind */
    free(kernels), free(weights), free(h), free(next), free(cells), free(arena), free(phases);
    return fine;
}

void planes(const float *from, const int64_t *shape, const int64_t *apart, int threads, float *to);

/* Outputs in order, of numbers side by side by channels, with others between pixels, rows and images. */
static int try_planes(int64_t images, int64_t channels, int64_t h, int64_t w, int64_t between, int threads)
{
    const int64_t col = channels + between % 3, row = w * col + between, image = h * row + between;
    const int64_t shape[] = {images, channels, h, w}, apart[] = {image, row, col}, count = images * channels * h * w;
    float *from = drawn_floats(images * image - (col - channels) - 2 * between), *to = floats(count, NAN), *at = to;
    planes(from, shape, apart, threads, to);
    int fine = 1;
    for (int64_t n = 0; n < images; n++)
        for (int64_t c = 0; c < channels; c++)
            for (int64_t y = 0; y < h; y++)
                for (int64_t x = 0; x < w; x++)
                    fine &= *at++ == from[n * image + y * row + x * col + c];
    free(from), free(to);
    return fine;
}

int main(void)
{
    for (int channels = 1; channels < 70; channels++) {
        const int width = channels % 16 == 5 ? 1100 : 1 + channels * 7 % 40; /* of more than one piece of work */
        if (!try_planes(1 + channels % 3, channels, 1 + channels % 6, width, channels % 4, 1 + channels % 5)) {
            fprintf(stderr, "planes of %d channels\n", channels);
            return 1;
        }
    }
    for (int boxes = 1; boxes < 100; boxes++)
        if (!try_boxes(boxes)) {
            fprintf(stderr, "%d boxes\n", boxes);
            return 1;
        }
    for (int channels = 1; channels < 40; channels++)
        for (int kind = 0; kind < 12; kind++)
            if (!try_regions(channels, kind % 3, kind / 3 % 2, kind / 6)) {
                fprintf(stderr, "regions of %d channels, kind %d\n", channels, kind);
                return 1;
            }
    for (int channels = 1; channels < 40; channels++)
        if (!try_move(1 + channels % 3, 1 + channels % 5, 3, channels, 1 + channels % 2)) {
            fprintf(stderr, "%d channels moved\n", channels);
            return 1;
        }
    for (int channels = 1; channels < 40; channels++)
        if (!try_resample(1 + channels % 3, 1 + channels % 5, 1 + channels % 7, channels, channels % 2)) {
            fprintf(stderr, "%d channels of pixels mixed\n", channels);
            return 1;
        }
    for (int units = 1; units < 40; units += 3)
        if (!try_recurrent(1 + units % 4, 1 + units % 6, units, units % 2 ? 4 : 1, units % 4 / 2)) {
            fprintf(stderr, "%d units over time\n", units);
            return 1;
        }
    if (panel() != PANEL_OF_CASES || most_rows() != ROWS_OF_CASES) {
        fprintf(stderr, "cases for panels of %d and %d rows: %d and %d\n", PANEL_OF_CASES, ROWS_OF_CASES, panel(), most_rows());
        return 2;
    }
    struct job job;
    int count = 0;
    for (; fread(&job, sizeof job, 1, stdin) == 1; count++)
        if ((job.step.kind != KIND_amx || has_tiles()) && !try(&job, count)) {
            fprintf(stderr, "case %d: %s\n", count, NAMES[job.step.kind]);
            return 1;
        }
    printf("%d\n", count);
    return 0;
}
