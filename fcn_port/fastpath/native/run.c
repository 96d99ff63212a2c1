/* A plan's steps one after the other, each by all threads: they take pieces of it until all are done. */

#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif
#if defined __unix__ || defined __APPLE__
#include <sched.h>
#else
#define sched_yield() 0
#endif

#include "step.h"

#define SPIN 2000 /* looks before a thread that waits lets others have its processor: some microseconds */

static void (*const kinds[])(const struct step *, struct worker *) = {
    product, strassen_1, strassen_2, winograd_3, winograd_3_small, winograd_5, winograd_7,
    depthwise, pool_max, pool_average, normalize, softmax, pointwise,
    pool_places, unpool,
};

/* Three planes of `count` floats each as pixels side by side. */
void interleave(const float *planes, int64_t count, float *pixels)
{
    const float *restrict a = planes, *restrict b = planes + count, *restrict c = planes + 2 * count;
    float *restrict to = pixels;
    for (int64_t i = 0; i < count; i++) {
        to[3 * i] = a[i];
        to[3 * i + 1] = b[i];
        to[3 * i + 2] = c[i];
    }
}

int panel(void) { return PANEL; }
int lanes(void) { return LANES; }
int most_rows(void) { return ROWS; }

void wait_for(struct phase *phase, int pieces)
{
    for (int looks = 0; atomic_load_explicit(&phase->done, memory_order_acquire) < pieces; looks++)
        if (looks >= SPIN)
            sched_yield();
}

/* All steps, as one thread goes through them: where others have done everything, it writes nothing. */
void work(const struct step *steps, int count, float *arena, struct phase *phases, int number)
{
    struct worker worker = {number, arena, phases, 0};
    for (int i = 0; i < count; i++)
        kinds[steps[i].kind](steps + i, &worker);
}

/* `phases` has room for all phases of the steps, `count_phases`. */
void run(const struct step *steps, int count, float *arena, struct phase *phases, int count_phases, int threads)
{
    for (int i = 0; i < count_phases; i++)
        phases[i] = (struct phase){0, 0};
#pragma omp parallel num_threads(threads) if (threads > 1)
    work(steps, count, arena, phases, omp_get_thread_num());
}
