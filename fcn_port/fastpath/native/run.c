/* A plan's steps one after the other, each by all threads: they take pieces of it, and meet before the next. */

#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#define omp_get_num_threads() 1
#endif
#if defined __unix__ || defined __APPLE__
#include <sched.h>
#else
#define sched_yield() 0
#endif

#include "step.h"

#define SPIN 2000 /* looks before a thread that waits lets others have its processor: some microseconds */

static void (*const kinds[])(const struct step *, struct worker *) = {
    product, winograd_3, winograd_5, winograd_7, depthwise, pool_max, pool_average, normalize, pointwise,
};

int panel(void) { return PANEL; }
int lanes(void) { return LANES; }
int most_rows(void) { return ROWS; }

void meet(struct team *team)
{
    if (team->threads == 1)
        return;
    int generation = atomic_load(&team->generation);
    if (atomic_fetch_add(&team->arrived, 1) == team->threads - 1) {
        atomic_store(&team->arrived, 0);
        atomic_store(&team->generation, generation + 1);
        return;
    }
    for (int looks = 0; atomic_load(&team->generation) == generation; looks++)
        if (looks >= SPIN)
            sched_yield();
}

/* `counters` has an int for each step. */
void run(const struct step *steps, int count, float *arena, int *counters, int threads)
{
    struct team team = {.threads = 0};
    for (int i = 0; i < count; i++)
        counters[i] = 0;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        struct worker worker = {&team, omp_get_thread_num(), arena, 0};
#pragma omp single
        team.threads = omp_get_num_threads();
        for (int i = 0; i < count; i++) {
            worker.counter = (_Atomic int *)(counters + i);
            kinds[steps[i].kind](steps + i, &worker);
            meet(&team);
        }
    }
}
