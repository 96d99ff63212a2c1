/* Convolution by Winograd's filtering, a block of tiles at a time (../winograd.py has the mathematics).
 *
 * Blobs are channels-last, with any distance between rows and columns, in floats. A block's tiles are evaluated at the
 * n * n points and stay in the cache; then, for a group of them and one panel of output channels, products are summed over
 * input channels at each point, and interpolated to where they belong. So nothing between blob and blob reaches memory.
 *
 * A vector holds as many channels as a register does. Input channels come in multiples of 16, output channels in
 * multiples of a panel. points.h is written from winograd.py: for n points DATA_n is B^T (n, n),
 * OUTPUT_n A^T (m, n), KERNEL_n G (n, r).
 */

#include <stdint.h>
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif

#include "points.h"

#define MOST 8 /* points along one axis */
#define AT_ONCE 128 /* channels summed before the sum is added to the others: keeps rounding small */

/* Floats of a register, and as many rows and vectors of sums as registers hold; ROWS divides 12, LANES 16. */
#if defined __AVX512F__
#define LANES 16
#define ROWS 12
#define VECTORS 2
#elif defined __AVX__
#define LANES 8
#define ROWS 6
#define VECTORS 2
#elif defined __aarch64__
#define LANES 4
#define ROWS 6
#define VECTORS 4
#else
#define LANES 4
#define ROWS 6
#define VECTORS 2
#endif
#define PANEL (VECTORS * LANES)
/* Between two points lie so many floats more: distances of 4096 bytes would bring all to the same place in the cache. */
#define APART 16

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define LOOP _Pragma("GCC unroll 1")

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int mask __attribute__((vector_size(4 * LANES)));

struct task {
    const float *x; /* (images, in_h, in_w, in_channels) */
    int64_t x_image, x_row, x_col;
    const float *kernels; /* from pack_n */
    const float *bias;    /* (channels) */
    float *y;             /* (images, h, w, channels) */
    int64_t y_image, y_row, y_col;
    float *tiles;    /* n * n * (block * in_channels + APART), for each thread unless shared */
    float *products; /* threads * n * n * (group * PANEL + APART) */
    int images, in_h, in_w, in_channels, h, w, channels;
    int top, left; /* zeros before the first row and column; as many as needed behind the last */
    int relu;
    int block; /* tiles that are evaluated at a time, a multiple of 12 */
    int group; /* of these, tiles whose products are kept until they are interpolated, a multiple of 12 */
    int shared;
    int threads;
};

struct place {
    int64_t image, y, x; /* of a tile's first output */
};

static const float zeros[4096]; /* what lies outside a blob; no layer has more channels */

int panel(void) { return PANEL; }

INLINE struct place place_of(const struct task *t, int64_t tile, int m)
{
    int64_t rows = (t->h + m - 1) / m, cols = (t->w + m - 1) / m;
    return (struct place){tile / (rows * cols), tile / cols % rows * m, tile % cols * m};
}

/* Sum of a[i] * x[i], for numbers a that the compiler knows. */
INLINE vec dot(const float *a, int n, const vec *x)
{
    vec sum = {0};
    UNROLL for (int i = 0; i < n; i++)
        if (a[i] != 0)
            sum += a[i] * x[i];
    return sum;
}

/* B^T d B for one tile's window d, to `to` + point * stride. */
INLINE void evaluate(const float *data, int n, int m, const struct task *t, int64_t tile, float *to, int64_t stride)
{
    struct place at = place_of(t, tile, m);
    const float *from[MOST][MOST];
    for (int u = 0; u < n; u++)
        for (int v = 0; v < n; v++) {
            int64_t y = at.y - t->top + u, x = at.x - t->left + v;
            int inside = y >= 0 && y < t->in_h && x >= 0 && x < t->in_w;
            from[u][v] = inside ? t->x + at.image * t->x_image + y * t->x_row + x * t->x_col : zeros;
        }
    for (int c = 0; c < t->in_channels; c += LANES) {
        vec d[MOST], half[MOST][MOST];
        LOOP for (int v = 0; v < n; v++) {
            UNROLL for (int u = 0; u < n; u++)
                d[u] = *(const vec *)(from[u][v] + c);
            UNROLL for (int i = 0; i < n; i++)
                half[i][v] = dot(data + i * n, n, d);
        }
        LOOP for (int i = 0; i < n; i++)
            UNROLL for (int j = 0; j < n; j++)
                *(vec *)(to + (i * n + j) * stride + c) = dot(data + j * n, n, half[i]);
    }
}

/* ROWS tiles at one point times a panel of kernels: (ROWS, channels) times (channels, PANEL), to (ROWS, PANEL). */
INLINE void multiply(const float *tiles, const float *kernels, int channels, float *to)
{
    for (int first = 0; first < channels; first += AT_ONCE) {
        int end = first + AT_ONCE < channels ? first + AT_ONCE : channels;
        vec sum[ROWS][VECTORS];
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int v = 0; v < VECTORS; v++)
                sum[r][v] = (vec){0};
        for (int c = first; c < end; c++) {
            vec k[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; v++)
                k[v] = *(const vec *)(kernels + c * PANEL + v * LANES);
            UNROLL for (int r = 0; r < ROWS; r++)
                UNROLL for (int v = 0; v < VECTORS; v++)
                    sum[r][v] += tiles[(int64_t)r * channels + c] * k[v];
        }
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int v = 0; v < VECTORS; v++) {
                vec *place = (vec *)(to + r * PANEL + v * LANES);
                if (first)
                    sum[r][v] += *place;
                *place = sum[r][v];
            }
    }
}

/* A^T p A for one tile and one panel of channels, with bias and ReLU, to the tile's place in y. */
INLINE void interpolate(const float *output, int n, int m, const struct task *t, int64_t tile, int channel,
                        const float *products, int64_t stride)
{
    struct place at = place_of(t, tile, m);
    int64_t rows = t->h - at.y < m ? t->h - at.y : m, cols = t->w - at.x < m ? t->w - at.x : m;
    LOOP for (int q = 0; q < PANEL; q += LANES) {
        float *y = t->y + at.image * t->y_image + at.y * t->y_row + at.x * t->y_col + channel + q;
        vec bias = *(const vec *)(t->bias + channel + q);
        vec p[MOST], half[MOST][MOST], out[MOST];
        LOOP for (int v = 0; v < n; v++) {
            UNROLL for (int u = 0; u < n; u++)
                p[u] = *(const vec *)(products + (u * n + v) * stride + q);
            UNROLL for (int i = 0; i < m; i++)
                half[i][v] = dot(output + i * n, n, p);
        }
        LOOP for (int i = 0; i < rows; i++) {
            UNROLL for (int j = 0; j < m; j++) {
                vec value = dot(output + j * n, n, half[i]) + bias;
                out[j] = t->relu ? (vec)((mask)value & ~(value < 0)) : value; /* a NaN stays */
            }
            LOOP for (int j = 0; j < cols; j++)
                *(vec *)(y + i * t->y_row + j * t->y_col) = out[j];
        }
    }
}

/* One panel of output channels for the tiles lo ... hi - 1 of a block that begins at tile `first` and was evaluated. */
INLINE void finish(const float *output, int n, int m, const struct task *t, int64_t first, int lo, int hi, int panel,
                   const float *tiles, float *products)
{
    int64_t apart = (int64_t)t->block * t->in_channels + APART, kept = (int64_t)t->group * PANEL + APART;
    int64_t of_panel = (int64_t)t->in_channels * PANEL, of_point = t->channels / PANEL * of_panel;
    for (int p = 0; p < n * n; p++)
        for (int r = lo; r < hi; r += ROWS)
            multiply(tiles + p * apart + (int64_t)r * t->in_channels, t->kernels + p * of_point + panel * of_panel,
                     t->in_channels, products + p * kept + (r - lo) * PANEL);
    for (int i = lo; i < hi; i++)
        interpolate(output, n, m, t, first + i, panel * PANEL, products + (i - lo) * PANEL, kept);
}

INLINE void convolve(const float *data, const float *output, int n, int m, const struct task *t)
{
    int64_t all = (int64_t)t->images * ((t->h + m - 1) / m) * ((t->w + m - 1) / m);
    int64_t apart = (int64_t)t->block * t->in_channels + APART, kept = (int64_t)t->group * PANEL + APART;
    int panels = t->channels / PANEL;
#pragma omp parallel num_threads(t->threads)
    {
        int64_t thread = omp_get_thread_num();
        float *products = t->products + thread * n * n * kept;
        if (t->shared) { /* threads share each block's tiles, and divide groups and panels */
            for (int64_t first = 0; first < all; first += t->block) {
                int count = all - first < t->block ? (int)(all - first) : t->block;
#pragma omp for schedule(static)
                for (int i = 0; i < count; i++)
                    evaluate(data, n, m, t, first + i, t->tiles + (int64_t)i * t->in_channels, apart);
#pragma omp for collapse(2) schedule(static)
                for (int group = 0; group < (count + t->group - 1) / t->group; group++)
                    for (int panel = 0; panel < panels; panel++) {
                        int lo = group * t->group, hi = lo + t->group < count ? lo + t->group : count;
                        finish(output, n, m, t, first, lo, hi, panel, t->tiles, products);
                    }
            }
        } else { /* each thread does blocks of its own, and none waits for another before the end */
            float *tiles = t->tiles + thread * n * n * apart;
#pragma omp for schedule(dynamic)
            for (int64_t first = 0; first < all; first += t->block) {
                int count = all - first < t->block ? (int)(all - first) : t->block;
                for (int i = 0; i < count; i++)
                    evaluate(data, n, m, t, first + i, tiles + (int64_t)i * t->in_channels, apart);
                for (int panel = 0; panel < panels; panel++)
                    finish(output, n, m, t, first, 0, count, panel, tiles, products);
            }
        }
    }
}

/* G g G^T of (channels, in_channels, r, r) kernels, in double precision, to (n * n, panels, in_channels, PANEL). */
INLINE void pack(const double *kernel, int n, int r, const float *weights, int in_channels, int channels, int threads,
                 float *to)
{
    int panels = channels / PANEL;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int k = 0; k < channels; k++)
        for (int c = 0; c < in_channels; c++) {
            const float *g = weights + ((int64_t)k * in_channels + c) * r * r;
            double half[MOST][MOST];
            for (int i = 0; i < n; i++)
                for (int v = 0; v < r; v++) {
                    half[i][v] = 0;
                    for (int u = 0; u < r; u++)
                        half[i][v] += kernel[i * r + u] * g[u * r + v];
                }
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n; j++) {
                    double sum = 0;
                    for (int v = 0; v < r; v++)
                        sum += kernel[j * r + v] * half[i][v];
                    to[(((int64_t)(i * n + j) * panels + k / PANEL) * in_channels + c) * PANEL + k % PANEL] = (float)sum;
                }
        }
}

#define FOR_POINTS(n, m)                                                                                               \
    void convolve_##n(const struct task *t) { convolve(DATA_##n, OUTPUT_##n, n, m, t); }                               \
    void pack_##n(const float *weights, int in_channels, int channels, int threads, float *to)                         \
    {                                                                                                                  \
        pack(KERNEL_##n, n, n - m + 1, weights, in_channels, channels, threads, to);                                   \
    }

FOR_POINTS(6, 4)
FOR_POINTS(8, 2)
