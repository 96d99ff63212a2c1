/* Convolution as a product of matrices by the tiles of Intel's AMX, which multiply bfloat16 numbers sixteen times as
 * fast as vectors multiply floats.
 *
 * A float is the sum of three bfloat16 numbers: what it rounds to, what the rest rounds to, and the rest of that, which
 * has no more than 8 bits. Of the nine products of two floats' parts the six largest are summed, in floats; the other
 * three are together below 2^-24 of the product, no more than a float rounds (Henry, Tang and Heinecke, ARITH 2019, on
 * such sums). Tiles take what is below 2^-126 for 0, parts and sums alike: of rows or kernels that all are below 2^-103
 * (1e-31) digits are lost that floats have.
 *
 * Rows of the matrix are what each output reads, as in product.c: of 1x1 windows where they lie (`shared` is
 * WHERE_THEY_LIE), of others, and where some lie in padding, copied together. `stretch` of their numbers are taken apart
 * for a block of rows, in the order in which tiles are loaded, and multiplied with each panel's kernels, a segment of
 * which stays in the first cache meanwhile; sums wait in the second. `block` counts rows, `group` panels. A row or a
 * panel with infinity, what is no number, or nearly so large is multiplied as floats are, by itself.
 */

#include "gathering.h"
#include "packing.h"

#if defined __AMX_TILE__ && defined __AMX_BF16__ && defined __AVX512F__ && defined __linux__

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TILE = 16, STEP = 32, PARTS = 3 }; /* rows or outputs of a tile; numbers of a row that it multiplies */
enum { SEGMENT = 4, TIMES = 6 }; /* steps after which sums are put away for the next rows; products of parts in each */
enum { OF_PART = TILE * STEP, OF_ROWS = PARTS * OF_PART, OF_KERNELS = 2 * OF_ROWS }; /* numbers of a step */
enum { WHERE_THEY_LIE, GATHERED };
enum { PERMISSION = 0x1023, TILE_DATA = 18 }; /* Linux, arch/x86/include/uapi/asm/prctl.h */

typedef uint16_t brief; /* bfloat16: the upper half of a float */

_Static_assert(PANEL == 2 * TILE, "a panel is two tiles of outputs");

/* 1 where the system lets this process use tiles; before that they end it. */
int has_tiles(void) { return syscall(SYS_arch_prctl, PERMISSION, TILE_DATA) == 0; }

static void begin_tiles(void)
{
    static const struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } all = {.palette = 1, .bytes = {[0 ... 7] = 2 * STEP}, .rows = {[0 ... 7] = TILE}};
    _tile_loadconfig(&all);
}

INLINE digits rounded(vec x) { return ((digits)x + 0x8000u) & 0xffff0000u; }

/* 1 where a number is not finite, or so large that it may not be when it is rounded. */
INLINE int is_odd(vec x) { return _mm512_cmpge_epu32_mask((__m512i)((digits)x << 1), _mm512_set1_epi32(0xfe000000)) != 0; }

/* The three parts of 32 numbers, so far from each other: number i and number i + 16 side by side, as pairs of which tiles
 * sum the products. */
INLINE void take_apart(vec first, vec second, brief *to, int64_t apart)
{
    UNROLL for (int part = 0; part < PARTS; part++) {
        const digits a = rounded(first), b = rounded(second);
        *(vec *)(to + part * apart) = (vec)(a >> 16 | b);
        first -= (vec)a, second -= (vec)b;
    }
}

/* The rows of a piece of work. */
struct rows_apart {
    int64_t count;
    brief *parts; /* (tiles, steps, PARTS, TILE, STEP) of a stretch */
    float *sums; /* (panels of a group, rows of a block, PANEL) */
    float *gathered; /* a row */
    int64_t *x, *y, *z; /* where in the arena each begins, its outputs do, and what is added to them */
    int64_t *odd;
};

INLINE const float *row_of_output(const struct step *s, const float *arena, const struct rows_apart *rows, int64_t first,
                                  int64_t r)
{
    if (s->shared == WHERE_THEY_LIE)
        return arena + rows->x[r];
    gather(s, arena, first + r, rows->gathered);
    return rows->gathered;
}

static void look_at(const struct step *s, float *arena, int64_t first, const struct rows_apart *rows)
{
    for (int64_t r = 0; r < rows->count; r++) {
        const struct spot at = spot_of(s, first + r);
        rows->x[r] = place(arena, &s->x, at.image, at.y * s->stride_h, at.x * s->stride_w) - arena;
        rows->y[r] = place(arena, &s->y, at.image, at.y, at.x) - arena;
        rows->z[r] = place(arena, &s->z, at.image, at.y, at.x) - arena;
        rows->odd[r] = 0;
    }
}

/* Take `count` numbers of each row apart, from number `from` on. */
static void take_rows_apart(const struct step *s, const float *arena, int64_t first, const struct rows_apart *rows,
                            int64_t from, int64_t count)
{
    const int64_t steps = (count + STEP - 1) / STEP;
    for (int64_t r = 0; r < rows->count; r++) {
        const float *x = row_of_output(s, arena, rows, first, r) + from;
        brief *to = rows->parts + r / TILE * steps * OF_ROWS + r % TILE * STEP;
        int odd = 0;
        LOOP for (int64_t c = 0; c < count; c += STEP, to += OF_ROWS) {
            vec one = load(x + c), other = {0};
            if (c + STEP <= count)
                other = load(x + c + LANES);
            else if (c + LANES < count)
                other = first_of(load(x + c + LANES), count - c - LANES, 0);
            else
                one = first_of(one, count - c, 0);
            odd |= is_odd(one) | is_odd(other);
            take_apart(one, other, to, OF_PART);
        }
        rows->odd[r] |= odd;
    }
    __asm__ volatile("" ::: "memory"); /* GCC does not know that tiles read what was written */
}

/* What is fetched meanwhile, some lines each time that four tiles are multiplied: kernels that are read next, and, where
 * these are the last numbers of rows, their outputs and what is added to them. */
struct ahead {
    const brief *kernels;
    int64_t lines;
    float *arena;
    const int64_t *y, *z, *until; /* of rows */
    int64_t channel, rows;
};

INLINE void fetch_some(struct ahead *next)
{
    LOOP for (int64_t line = 0; line < next->lines; line++, next->kernels += 2 * LINE)
        __builtin_prefetch(next->kernels, 0, 2);
    for (int64_t r = 0; r < next->rows && next->y < next->until; r++, next->y++) {
        __builtin_prefetch(next->arena + *next->y + next->channel, 1, 2);
        __builtin_prefetch(next->arena + *next->y + next->channel + LANES, 1, 2);
        if (next->z) {
            __builtin_prefetch(next->arena + *next->z + next->channel, 0, 2);
            __builtin_prefetch(next->arena + *next->z++ + next->channel + LANES, 0, 2);
        }
    }
}

#define LOAD_ROWS(part)                                                                                                \
    _tile_loadd(4, rows + (part)*OF_PART, 2 * STEP);                                                                   \
    if (tall)                                                                                                          \
        _tile_loadd(5, rows + below + (part)*OF_PART, 2 * STEP);
#define LOAD_KERNELS(part)                                                                                             \
    _tile_loadd(6, kernels + 2 * (part)*OF_PART, 2 * STEP);                                                            \
    _tile_loadd(7, kernels + (2 * (part) + 1) * OF_PART, 2 * STEP);
#define MULTIPLY                                                                                                       \
    fetch_some(&next);                                                                                                 \
    _tile_dpbf16ps(0, 4, 6);                                                                                           \
    _tile_dpbf16ps(1, 4, 7);                                                                                           \
    if (tall) {                                                                                                        \
        _tile_dpbf16ps(2, 5, 6);                                                                                       \
        _tile_dpbf16ps(3, 5, 7);                                                                                       \
    }

/* `steps` of two tiles of rows, of which the second lies `below`, or of one, times a panel, to (2 * TILE, PANEL), or added
 * to what lies there; the least products come first. */
INLINE void multiply_segment(const brief *rows, int64_t below, int tall, const brief *kernels, int64_t steps, float *to,
                             int added, struct ahead next)
{
    if (added) {
        _tile_loadd(0, to, 4 * PANEL);
        _tile_loadd(1, to + TILE, 4 * PANEL);
    } else {
        _tile_zero(0);
        _tile_zero(1);
    }
    if (tall && added) {
        _tile_loadd(2, to + TILE * PANEL, 4 * PANEL);
        _tile_loadd(3, to + TILE * PANEL + TILE, 4 * PANEL);
    } else if (tall) {
        _tile_zero(2);
        _tile_zero(3);
    }
    LOOP for (int64_t i = 0; i < steps; i++, rows += OF_ROWS, kernels += OF_KERNELS) {
        LOAD_ROWS(2) LOAD_KERNELS(0) MULTIPLY
        LOAD_ROWS(1) MULTIPLY
        LOAD_KERNELS(1) MULTIPLY
        LOAD_ROWS(0) MULTIPLY
        LOAD_KERNELS(2) MULTIPLY
        LOAD_KERNELS(0) MULTIPLY
    }
    _tile_stored(0, to, 4 * PANEL);
    _tile_stored(1, to + TILE, 4 * PANEL);
    if (tall) {
        _tile_stored(2, to + TILE * PANEL, 4 * PANEL);
        _tile_stored(3, to + TILE * PANEL + TILE, 4 * PANEL);
    }
}

INLINE int64_t steps_of(int64_t length) { return (length + STEP - 1) / STEP; }
INLINE int64_t of_panel(int64_t length) { return steps_of(length) * OF_KERNELS + 2 * LINE; } /* and whether it is odd */

/* The kernels that a number has for a tile of outputs: the upper halves where it `is_other`, the later one of a pair. */
INLINE vec kernels_at(const brief *at, int is_other)
{
    vec sum = {0};
    UNROLL for (int part = PARTS - 1; part >= 0; part--) {
        const digits both = (digits)load((const float *)(at + 2 * part * OF_PART));
        sum += (vec)(is_other ? both & 0xffff0000u : both << 16);
    }
    return sum;
}

/* What tiles cannot multiply. */
static void multiply_floats(const float *row, int64_t length, const brief *kernels, float *to)
{
    vec one = {0}, other = {0};
    LOOP for (int64_t number = 0; number < length; number++) {
        const brief *at = kernels + number / STEP * OF_KERNELS + number % TILE * STEP;
        const int is_other = number % STEP >= TILE;
        one = multiply_add(all_of(row[number]), kernels_at(at, is_other), one);
        other = multiply_add(all_of(row[number]), kernels_at(at + OF_PART, is_other), other);
    }
    *(vec *)to = one, *(vec *)(to + TILE) = other;
}

/* The sums of some rows and one panel to their places. */
static void put_rows(const struct step *s, float *arena, const struct rows_apart *rows, int64_t first, int64_t from,
                     int64_t until, int64_t panel, const brief *kernels, const float *sums)
{
    const int64_t length = s->kernel_h * s->kernel_w * s->in_channels, channel = panel * PANEL;
    const struct bend bend = bend_of(s, channel);
    const int is_simple = channel + PANEL <= s->channels && is_bent(s) && !bend.sloped && s->bias;
    const int has_odd = kernels[steps_of(length) * OF_KERNELS];
    for (int64_t r = from; r < until; r++, sums += PANEL) {
        float plain[PANEL] LINED;
        if (has_odd || rows->odd[r])
            multiply_floats(row_of_output(s, arena, rows, first, r), length, kernels, plain);
        put_row(VECTORS, s, is_simple ? &bend : 0, arena + rows->y[r], s->z.image ? arena + rows->z[r] : 0, channel,
                has_odd || rows->odd[r] ? plain : sums);
    }
}

/* A stretch of all rows of a piece, from number `begin` on, times one panel, whose kernels begin at `kernels`; those of
 * another, or of the same farther on, which follow, are fetched meanwhile. */
static void multiply_panel(const struct step *s, float *arena, const struct rows_apart *rows, int64_t first,
                           int64_t begin, int64_t end, int64_t panel, const brief *kernels, const brief *next, float *sums)
{
    const int64_t length = s->kernel_h * s->kernel_w * s->in_channels, of_tile = steps_of(end - begin) * OF_ROWS;
    const int64_t pairs = (rows->count + 2 * TILE - 1) / (2 * TILE);
    for (int64_t from = begin; from < end; from += SEGMENT * STEP) {
        const int64_t steps = least(SEGMENT, steps_of(end - from));
        const brief *own = kernels + from / STEP * OF_KERNELS;
        const int is_last = from + SEGMENT * STEP >= length;
        struct ahead ahead = {.kernels = from + SEGMENT * STEP < end ? own + SEGMENT * OF_KERNELS : next, .arena = arena};
        ahead.lines = (SEGMENT * OF_KERNELS / (2 * LINE) + pairs * steps * TIMES - 1) / (pairs * steps * TIMES);
        ahead.rows = is_last ? (2 * TILE + steps * TIMES - 1) / (steps * TIMES) : 0, ahead.channel = panel * PANEL;
        for (int64_t r = 0; r < rows->count; r += 2 * TILE, ahead.kernels += ahead.lines * steps * TIMES * 2 * LINE) {
            const brief *parts = rows->parts + r / TILE * of_tile + (from - begin) / STEP * OF_ROWS;
            const int64_t until = least(r + 2 * TILE, rows->count);
            ahead.y = rows->y + r, ahead.z = s->z.image ? rows->z + r : 0, ahead.until = rows->y + until;
            if (until - r > TILE)
                multiply_segment(parts, of_tile, 1, own, steps, sums + r * PANEL, from > 0, ahead);
            else
                multiply_segment(parts, of_tile, 0, own, steps, sums + r * PANEL, from > 0, ahead);
            if (is_last)
                put_rows(s, arena, rows, first, r, until, panel, kernels, sums + r * PANEL);
        }
    }
}

void amx(const struct step *s, struct worker *w)
{
    const int64_t positions = s->images * s->h * s->w, length = s->kernel_h * s->kernel_w * s->in_channels;
    const int64_t panels = (s->channels + PANEL - 1) / PANEL, groups = (panels + s->group - 1) / s->group;
    const int64_t blocks = (positions + s->block - 1) / s->block;
    struct rows_apart rows = {.parts = (brief *)scratch_of(s, w)};
    rows.sums = (float *)(rows.parts + s->block / TILE * steps_of(s->stretch) * OF_ROWS);
    rows.gathered = rows.sums + s->group * s->block * PANEL;
    rows.x = (int64_t *)(rows.gathered + (s->shared == GATHERED ? spread(length) + STEP : 0));
    rows.y = rows.x + s->block, rows.z = rows.y + s->block, rows.odd = rows.z + s->block;
    int begun = 0;
    for (int64_t piece; (piece = take(w, blocks * groups)) >= 0;) {
        if (!begun)
            begin_tiles();
        begun = 1;
        const int64_t first = piece / groups * s->block, panel = piece % groups * s->group;
        rows.count = least(s->block, positions - first);
        look_at(s, w->arena, first, &rows);
        for (int64_t from = 0; from < length; from += s->stretch) {
            const int64_t end = least(from + s->stretch, length);
            take_rows_apart(s, w->arena, first, &rows, from, end - from);
            for (int64_t p = panel; p < least(panel + s->group, panels); p++) {
                const brief *kernels = (const brief *)s->kernels + p * of_panel(length);
                multiply_panel(s, w->arena, &rows, first, from, end, p, kernels,
                               kernels + of_panel(length) + from / STEP * OF_KERNELS,
                               rows.sums + (p - panel) * s->block * PANEL);
            }
        }
    }
    if (begun)
        _tile_release();
}

/* The parts of one kernel, whose sum it is: infinity and what is no number are their first. */
static void take_odd_apart(float x, brief *to)
{
    for (int part = 0; part < PARTS; part++) {
        union { float value; uint32_t bits; } high = {x};
        high.bits = (high.bits | (x != x ? 0x400000u : 0)) & 0xffff0000u;
        to[2 * part * OF_PART] = (brief)(high.bits >> 16);
        x = x - x == 0 ? x - high.value : 0;
    }
}

/* Those of the kernels that two numbers have for a tile of outputs; 1 where one is odd. */
INLINE int take_kernels_apart(vec one, vec other, brief *to)
{
    if (!(is_odd(one) | is_odd(other))) {
        take_apart(one, other, to, 2 * OF_PART);
        return 0;
    }
    for (int i = 0; i < TILE; i++) {
        take_odd_apart(one[i], to + 2 * i);
        take_odd_apart(other[i], to + 2 * i + 1);
    }
    return 1;
}

/* To (panels, steps, PARTS, 2, TILE, TILE, 2), and whether the panel is odd behind each. */
static void pack_of_panel(const struct packing *p, const float *turned, int64_t panel)
{
    const int64_t length = p->u->length, channels = p->in_channels, places = length / channels;
    brief *to = (brief *)p->to + panel * of_panel(length);
    int odd = 0;
    for (int64_t step = 0; step < steps_of(length); step++, to += OF_KERNELS)
        for (int64_t at = 0; at < 2 * TILE; at++) {
            const int64_t one = step * STEP + at % TILE, other = one + TILE, tile = at / TILE;
            const float *columns = turned + tile * TILE;
            const vec none = {0};
            odd |= take_kernels_apart(
                one < length ? load(columns + (one % channels * places + one / channels) * PANEL) : none,
                other < length ? load(columns + (other % channels * places + other / channels) * PANEL) : none,
                to + tile * OF_PART + at % TILE * STEP);
        }
    memset(to, odd, 4 * LINE);
}

void pack_amx(const struct unpacked *u, int64_t in_channels, int threads, float *to)
{
    pack_parts(u, in_channels, PANEL, threads, to, pack_of_panel);
}

#else

int has_tiles(void) { return 0; }
void amx(const struct step *s, struct worker *w) { (void)s, (void)w; __builtin_trap(); } /* no plan has it */
void pack_amx(const struct unpacked *u, int64_t c, int threads, float *to) { (void)u, (void)c, (void)threads, (void)to; }

#endif
