/* A plan's steps one after the other, each by all threads: they take pieces of it until all are done. */

#include <time.h>

#include "processors.h"
#include "step.h"
#include "together.h"

/* Nanoseconds: how long a thread that waits looks again and again, and sleeps between two looks after that. */
enum { LEAST_LOOKING = 20000, MOST_LOOKING = 500000, SLEEP = 20000 };

static void (*const kinds[])(const struct step *, struct worker *) = {
    product, strassen_1, strassen_2, winograd_3, winograd_3_small, winograd_5, winograd_7,
    winograd_7_pieces, depthwise, pool_max, pool_average, normalize, softmax, pointwise,
    pool_places, unpool, upsample, pixels, winograd_3_lean,
    move, normalize_within, unit, standardize, resample, recurrent, largest, sparse, amx,
};

int panel(void) { return PANEL; }
int lanes(void) { return LANES; }
int most_rows(void) { return ROWS; }

static int64_t now(void)
{
    struct timespec time;
    timespec_get(&time, TIME_UTC);
    return time.tv_sec * (int64_t)1000000000 + time.tv_nsec;
}

static void sleep_a_little(void)
{
#if defined __unix__ || defined __APPLE__
    nanosleep(&(struct timespec){.tv_nsec = SLEEP}, 0);
#endif
}

/* This thread has no pieces of its phase left: it waits until all are done.
 *
 * Others need about as long for one of theirs as it needed for one of its own, and so long it looks again and again: on
 * a processor that others use too it would be back only after some milliseconds, in which everybody waits for it. Who
 * takes longer has lost his processor for as long. Then it sleeps, which does not count as its share of time as
 * waiting would, and sched_yield() does, and which brings their shares to the same moments.
 */
void end_phase(struct worker *w, int pieces)
{
    atomic_fetch_add_explicit(&w->phase->done, w->pieces, memory_order_release);
    int64_t time = now(), own = w->pieces ? 2 * (time - w->begun) / w->pieces : 0;
    const int64_t until = time + most(LEAST_LOOKING, least(own, MOST_LOOKING));
    for (; atomic_load_explicit(&w->phase->done, memory_order_acquire) < pieces; time = now())
        if (time > until)
            sleep_a_little();
    w->begun = time;
    w->phase++;
    w->pieces = 0;
}

/* All steps, as one thread of a team goes through them, or of none (0). */
INLINE void go(const struct step *steps, int count, float *arena, struct phase *phases, int number, struct team *team)
{
    struct worker worker = {number, arena, phases, 0, now()};
    if (team)
        join_team(team, number);
    for (int i = 0; i < count; i++) {
        kinds[steps[i].kind](steps + i, &worker);
        if (team && number == 0 && i == 0)
            call_late_members(team);
    }
}

/* For a thread that somebody else made: where others have done everything, it writes nothing. */
void work(const struct step *steps, int count, float *arena, struct phase *phases, int number)
{
    go(steps, count, arena, phases, number, 0);
}

struct pass {
    const struct step *steps;
    int count;
    float *arena;
    struct phase *phases;
    struct team *team;
};

static void go_through(void *all, int number)
{
    const struct pass *p = all;
    go(p->steps, p->count, p->arena, p->phases, number, p->team);
}

/* `phases` has room for all phases of the steps, `count_phases`. */
void run(const struct step *steps, int count, float *arena, struct phase *phases, int count_phases, int threads)
{
    static _Thread_local struct team own;
    struct pass pass = {steps, count, arena, phases, THREADS_STAY ? &own : 0}; /* in other threads `own` is another one */
    for (int i = 0; i < count_phases; i++)
        phases[i] = (struct phase){0};
    if (pass.team)
        gather_team(pass.team, threads);
    together(threads, go_through, &pass);
}
