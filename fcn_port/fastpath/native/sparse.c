/* 1x1 convolution of blobs many of whose numbers are 0, as behind a ReLU: products with these are left out.
 *
 * A row is what one output position reads. Where products of several rows (product.c) multiply each number of each row, here
 * two rows are taken (of one image, so that others beside it change no bit), `stretch` of their numbers, and of these what is
 * not 0 times the kernels of as many outputs as `shared` registers hold, once for each row. Numbers that are there in both
 * rows come first, as they read kernels once. These kernels stay in the first cache for all rows of a piece, whose sums wait
 * in the second: each stretch is summed by itself, which keeps rounding small, and added to what the row has.
 *
 * `block` is how many pairs of rows a piece of work has at most, `group` how many groups of outputs. A group in whose kernels
 * there is infinity or what is no number, which times 0 is none, leaves nothing out.
 */

#include "gathering.h"
#include "packing.h"
#include "step.h"

#define MOST 8 /* vectors of outputs; division.py takes fewer where there are 16 registers */
#define NOWHERE (-1) /* where outputs of a row lie that there is not, an image having an odd number */

typedef uint64_t bits __attribute__((may_alias)); /* one for each number of a stretch */
typedef int64_t distance __attribute__((may_alias));

/* A bit for each number of a vector that is not 0; what is no number is not. */
INLINE uint64_t not_zero(vec x)
{
#if defined __AVX512F__
    return _mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_NEQ_UQ);
#elif defined __AVX__
    return (uint64_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)x, _mm256_setzero_ps(), _CMP_NEQ_UQ));
#elif defined __SSE__
    return (uint64_t)_mm_movemask_ps(_mm_cmpneq_ps((__m128)x, _mm_setzero_ps()));
#else
    uint64_t found = 0;
    UNROLL for (int i = 0; i < LANES; i++)
        found |= (uint64_t)(x[i] != 0) << i;
    return found;
#endif
}

INLINE bits first_bits(int64_t count) { return count < 64 ? ((bits)1 << count) - 1 : ~(bits)0; }

/* A bit for each of `count` numbers, 64 at most, that is there. */
INLINE bits there(const float *row, int64_t count)
{
    bits found = 0;
    if (count == 64) {
        UNROLL for (int c = 0; c < 64; c += LANES)
            found |= not_zero(load(row + c)) << c;
        return found;
    }
    LOOP for (int64_t c = 0; c < count; c += LANES)
        found |= not_zero(load(row + c)) << c;
    return found & first_bits(count);
}

/* The rows of a piece of work, two for each pair; where in the arena each begins, its outputs do, and what is added to them. */
struct some_rows {
    int64_t count;
    float *sums; /* (count, outputs of a group) */
    bits *there; /* (stretches, count) */
    distance *x, *y, *z;
};

/* Find row `r`, which is the output at a spot. */
INLINE void look_at_row(const struct step *s, float *arena, struct spot at, const struct some_rows *rows, int64_t r)
{
    const float *row = place(arena, &s->x, at.image, at.y * s->stride_h, at.x * s->stride_w);
    rows->x[r] = row - arena;
    rows->y[r] = place(arena, &s->y, at.image, at.y, at.x) - arena;
    rows->z[r] = place(arena, &s->z, at.image, at.y, at.x) - arena;
    for (int64_t from = 0, i = 0; from < s->in_channels; from += s->stretch, i++)
        rows->there[i * rows->count + r] = there(row + from, least(s->stretch, s->in_channels - from));
}

/* Row `r` is none: its image has an odd number, the last of which is the row before. */
INLINE void look_at_none(const struct step *s, const struct some_rows *rows, int64_t r)
{
    rows->x[r] = rows->x[r - 1];
    rows->y[r] = NOWHERE;
    for (int64_t from = 0, i = 0; from < s->in_channels; from += s->stretch, i++)
        rows->there[i * rows->count + r] = 0;
}

INLINE int64_t pairs_of_image(const struct step *s) { return (s->h * s->w + 1) / 2; }

/* All rows from pair `first` on; to divide for each took as long as the products of a short one. */
static void look_at(const struct step *s, float *arena, int64_t first, const struct some_rows *rows)
{
    const int64_t pairs = pairs_of_image(s);
    struct spot at = spot_of(s, first / pairs * s->h * s->w + first % pairs * 2);
    for (int64_t r = 0; r < rows->count; r += 2) {
        const struct spot next = next_spot(s, at);
        look_at_row(s, arena, at, rows, r);
        if (next.image == at.image)
            look_at_row(s, arena, next, rows, r + 1);
        else
            look_at_none(s, rows, r + 1);
        at = next.image == at.image ? next_spot(s, next) : next;
    }
}

/* To `sum`: the products of those numbers of a row that are there. */
INLINE void add_row(int vectors, const float *row, bits there, const float *kernels, vec *sum)
{
    LOOP for (; there; there &= there - 1) {
        const int c = __builtin_ctzll(there);
        const vec value = all_of(row[c]);
        const float *of_number = kernels + c * vectors * LANES;
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] = multiply_add(value, load(of_number + v * LANES), sum[v]);
    }
}

/* To `one` and `other`: the products of those numbers of two rows that are there. Numbers that one row alone has are taken one
 * of each row at a time, as sums of one row wait for each other. */
INLINE void sum_rows(int vectors, const float *row, bits of_one, const float *another, bits of_other, const float *kernels,
                     vec *one, vec *other)
{
    UNROLL for (int v = 0; v < vectors; v++)
        one[v] = other[v] = (vec){0};
    const bits both = of_one & of_other;
    LOOP for (bits left = both; left; left &= left - 1) {
        const int c = __builtin_ctzll(left);
        const vec value = all_of(row[c]), too = all_of(another[c]);
        const float *of_number = kernels + c * vectors * LANES;
        UNROLL for (int v = 0; v < vectors; v++) {
            const vec kernel = held(load(of_number + v * LANES));
            one[v] = multiply_add(value, kernel, one[v]);
            other[v] = multiply_add(too, kernel, other[v]);
        }
    }
    of_one &= ~both, of_other &= ~both;
    LOOP for (; of_one && of_other; of_one &= of_one - 1, of_other &= of_other - 1) {
        const int c = __builtin_ctzll(of_one), d = __builtin_ctzll(of_other);
        const vec value = all_of(row[c]), too = all_of(another[d]);
        const float *for_one = kernels + c * vectors * LANES, *for_other = kernels + d * vectors * LANES;
        UNROLL for (int v = 0; v < vectors; v++) {
            one[v] = multiply_add(value, load(for_one + v * LANES), one[v]);
            other[v] = multiply_add(too, load(for_other + v * LANES), other[v]);
        }
    }
    add_row(vectors, row, of_one, kernels, one);
    add_row(vectors, another, of_other, kernels, other);
}

/* Add what waits for two rows at `sums`. */
INLINE void add_sums(int vectors, const float *sums, vec *one, vec *other)
{
    UNROLL for (int v = 0; v < vectors; v++) {
        one[v] += load(sums + v * LANES);
        other[v] += load(sums + (vectors + v) * LANES);
    }
}

/* A stretch of two rows, which waits at `sums` behind what lies there unless it is the first. */
INLINE void add_rows(int vectors, const float *row, bits of_one, const float *another, bits of_other,
                     const float *kernels, float *sums, int first)
{
    vec one[MOST], other[MOST];
    sum_rows(vectors, row, of_one, another, of_other, kernels, one, other);
    if (!first)
        add_sums(vectors, sums, one, other);
    UNROLL for (int v = 0; v < vectors; v++) {
        *(vec *)(sums + v * LANES) = one[v];
        *(vec *)(sums + (vectors + v) * LANES) = other[v];
    }
}

/* What becomes of two rows' sums: with bias, addend (unless z is 0) and what waits, between floor and ceiling, to y. */
struct outputs {
    const float *sums, *bias, *z;
    float *y;
    int64_t y_apart, z_apart;
    float floor, ceiling;
};

/* The last stretch of two rows. */
INLINE void finish_rows(int vectors, const float *row, bits of_one, const float *another, bits of_other,
                        const float *kernels, const struct outputs *to, int first)
{
    vec one[MOST], other[MOST];
    sum_rows(vectors, row, of_one, another, of_other, kernels, one, other);
    if (!first)
        add_sums(vectors, to->sums, one, other);
    UNROLL for (int v = 0; v < vectors; v++) {
        const vec bias = held(load(to->bias + v * LANES));
        one[v] += bias, other[v] += bias;
    }
    if (to->z)
        UNROLL for (int v = 0; v < vectors; v++) {
            one[v] += load(to->z + v * LANES);
            other[v] += load(to->z + to->z_apart + v * LANES);
        }
    const vec floor = all_of(to->floor), ceiling = all_of(to->ceiling);
    float *y = to->y, *too = y + to->y_apart;
    UNROLL for (int v = 0; v < vectors; v++) {
        *(vec *)(y + v * LANES) = below(ceiling, above(floor, one[v]));
        *(vec *)(too + v * LANES) = below(ceiling, above(floor, other[v]));
    }
}

/* Each is a function of its own, as GCC runs out of registers for the sums within a larger one, of as many arguments as
 * registers pass. */
typedef void adder(const float *row, bits of_one, const float *another, bits of_other, const float *kernels, float *sums);
typedef void finisher(const float *row, bits of_one, const float *another, bits of_other, const float *kernels,
                      const struct outputs *to);

/* For a first stretch, one behind it, and the last, which may be the first. */
struct adders {
    adder *begin, *add;
    finisher *only, *last;
};

#define OWN(name, n, to)                                                                                               \
    static __attribute__((noinline)) void name##_##n(const float *row, bits of_one, const float *another,              \
                                                     bits of_other, const float *kernels, to)
#define ADDERS(n)                                                                                                      \
    OWN(begin, n, float *sums) { add_rows(n, row, of_one, another, of_other, kernels, sums, 1); }                      \
    OWN(add, n, float *sums) { add_rows(n, row, of_one, another, of_other, kernels, sums, 0); }                        \
    OWN(only, n, const struct outputs *to) { finish_rows(n, row, of_one, another, of_other, kernels, to, 1); }         \
    OWN(last, n, const struct outputs *to) { finish_rows(n, row, of_one, another, of_other, kernels, to, 0); }         \
    static const struct adders adders_##n = {begin_##n, add_##n, only_##n, last_##n};
ADDERS(1) ADDERS(2) ADDERS(3) ADDERS(4) ADDERS(5) ADDERS(6) ADDERS(7) ADDERS(8)

INLINE int64_t of_group(int64_t length, int64_t wide) { return length * wide + LINE; }

/* What is read of a row and a stretch. */
INLINE void fetch_numbers(const struct step *s, const float *row)
{
    LOOP for (int64_t c = 0; c < s->stretch; c += LINE)
        __builtin_prefetch(row + c, 0, 3);
}

/* The places of a row's outputs and what is added to them. */
INLINE void fetch_outputs(int vectors, const struct step *s, const float *arena, const struct some_rows *rows, int64_t r,
                          int64_t channel)
{
    if (rows->y[r] == NOWHERE)
        return;
    UNROLL for (int c = 0; c < vectors * LANES; c += LINE)
        __builtin_prefetch(arena + rows->y[r] + channel + c, 1, 3);
    if (s->z.image)
        UNROLL for (int c = 0; c < vectors * LANES; c += LINE)
            __builtin_prefetch(arena + rows->z[r] + channel + c, 0, 3);
}

/* A stretch of all rows' numbers, from `x` on, and its kernels for one group of outputs: the first of these, and which bits are
 * set for what counts although it is 0; `each` lines of the next stretch's kernels are fetched with each pair. */
struct part {
    float *arena, *x;
    const bits *there;
    const float *kernels, *ahead;
    bits also;
    int64_t each, channel;
};

/* The lines of the next stretch's kernels that are fetched with a pair. */
INLINE void fetch_kernels(struct part *p)
{
    LOOP for (int64_t line = 0; line < p->each; line++, p->ahead += LINE)
        __builtin_prefetch(p->ahead, 0, 2);
}

/* A stretch but the last; the next rows are fetched meanwhile where a processor's own cache does not hold them (division.py). */
INLINE void add_part(int vectors, adder *add, const struct step *s, const struct some_rows *rows, struct part p)
{
    for (int64_t r = 0; r < rows->count; r += 2) {
        fetch_kernels(&p);
        for (int64_t next = r + 2; LANES == 16 && next < least(r + 4, rows->count); next++)
            fetch_numbers(s, p.x + rows->x[next]);
        add(p.x + rows->x[r], p.there[r] | p.also, p.x + rows->x[r + 1], p.there[r + 1] | p.also, p.kernels,
            rows->sums + r * vectors * LANES);
    }
}

/* The last one; the places of the next two rows' outputs are fetched meanwhile. */
INLINE void finish_part(int vectors, adder *add, finisher *finish, const struct step *s, const struct some_rows *rows,
                        struct part p)
{
    const struct bend bend = bend_of(s, p.channel);
    const int is_simple = p.channel + vectors * LANES <= s->channels && is_bent(s) && !bend.sloped && s->bias;
    struct outputs to = {.bias = s->bias + p.channel, .floor = bend.floor, .ceiling = bend.ceiling};
    for (int64_t r = 0; r < rows->count; r += 2) {
        fetch_kernels(&p);
        for (int64_t next = r + 2; next < least(r + 4, rows->count); next++) {
            if (LANES == 16)
                fetch_numbers(s, p.x + rows->x[next]);
            fetch_outputs(vectors, s, p.arena, rows, next, p.channel);
        }
        const float *one = p.x + rows->x[r], *other = p.x + rows->x[r + 1];
        const bits of_one = p.there[r] | p.also, of_other = p.there[r + 1] | p.also;
        float *sums = rows->sums + r * vectors * LANES;
        if (is_simple && rows->y[r + 1] != NOWHERE) {
            to.sums = sums, to.y = p.arena + rows->y[r] + p.channel, to.y_apart = rows->y[r + 1] - rows->y[r];
            if (s->z.image)
                to.z = p.arena + rows->z[r] + p.channel, to.z_apart = rows->z[r + 1] - rows->z[r];
            finish(one, of_one, other, of_other, p.kernels, &to);
            continue;
        }
        add(one, of_one, other, of_other, p.kernels, sums);
        for (int64_t done = r; done < r + 2; done++)
            if (rows->y[done] != NOWHERE)
                put_row(vectors, s, 0, p.arena + rows->y[done], s->z.image ? p.arena + rows->z[done] : 0, p.channel,
                        rows->sums + done * vectors * LANES);
    }
}

/* All rows of a piece times the kernels of one group. */
INLINE void multiply_group(int vectors, const struct adders *adders, const struct step *s, float *arena,
                           const struct some_rows *rows, const float *kernels, int64_t channel)
{
    const int64_t length = s->in_channels, of_stretch = s->stretch * vectors * LANES;
    const int is_finite = kernels[length * vectors * LANES] == 0;
    const int64_t each = (2 * (of_stretch / LINE) + rows->count - 1) / rows->count;
    struct part p = {arena, arena, rows->there, kernels, kernels + of_stretch, 0, each, channel};
    for (int64_t from = 0; from < length; from += s->stretch) {
        p.also = is_finite ? 0 : first_bits(least(s->stretch, length - from));
        if (from + s->stretch < length)
            add_part(vectors, from ? adders->add : adders->begin, s, rows, p);
        else
            finish_part(vectors, from ? adders->add : adders->begin, from ? adders->last : adders->only, s, rows, p);
        p.x += s->stretch, p.there += rows->count, p.kernels += of_stretch, p.ahead += of_stretch;
    }
}

static void multiply_rows(const struct step *s, float *arena, const struct some_rows *rows, const float *kernels,
                          int64_t channel)
{
#define CASE(n)                                                                                                        \
    case n:                                                                                                            \
        multiply_group(n, &adders_##n, s, arena, rows, kernels, channel);                                              \
        return;
    switch (s->shared) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
    }
#undef CASE
}

void sparse(const struct step *s, struct worker *w)
{
    const int64_t pairs = s->images * pairs_of_image(s), wide = s->shared * LANES, most = 2 * s->block;
    const int64_t all = (s->channels + wide - 1) / wide, parts = (all + s->group - 1) / s->group;
    const int64_t blocks = (pairs + s->block - 1) / s->block;
    struct some_rows rows = {.sums = scratch_of(s, w)};
    rows.there = (bits *)(rows.sums + most * wide);
    rows.x = (distance *)(rows.there + most * ((s->in_channels + s->stretch - 1) / s->stretch));
    rows.y = rows.x + most, rows.z = rows.y + most;
    for (int64_t piece, last = -1; (piece = take(w, blocks * parts)) >= 0;) {
        const int64_t block = piece / parts, first = block * pairs / blocks, from = piece % parts * s->group;
        rows.count = 2 * ((block + 1) * pairs / blocks - first); /* of all pieces as alike as can be */
        if (block != last)
            look_at(s, w->arena, first, &rows);
        last = block;
        for (int64_t group = from; group < least(from + s->group, all); group++)
            multiply_rows(s, w->arena, &rows, s->kernels + group * of_group(s->in_channels, wide), group * wide);
    }
}

/* To (groups, in_channels, outputs of a group); behind each group is 0 where all of it is finite, else 1. */
static void pack_of_group(const struct packing *p, const float *turned, int64_t group)
{
    const int64_t floats = p->u->length * p->wide;
    float *to = p->to + group * of_group(p->u->length, p->wide);
    mask odd = {0};
    LOOP for (int64_t i = 0; i < floats; i += LANES) {
        const vec kernels = load(turned + i);
        odd |= ~(size_of(kernels) < __builtin_inff());
        *(vec *)(to + i) = kernels;
    }
    clear(to + floats, LINE);
    for (int i = 0; i < LANES; i++)
        to[floats] = odd[i] ? 1 : to[floats];
}

void pack_sparse(const struct unpacked *u, int64_t in_channels, int threads, float *to)
{
    pack_parts(u, in_channels, u->wide, threads, to, pack_of_group);
}
