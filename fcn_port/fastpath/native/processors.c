/* Threads of a team on processors of their own.
 *
 * A thread that slept may wake up beside the one that woke it and wait there, or share its processor, for longer than a
 * pass takes, though another processor has nothing to do (Linux 6.18 on two processors, 6 ms in place of 3 after each
 * pause of the caller). The others know nothing of it; elsewhere than on Linux these functions do nothing.
 */

#define _GNU_SOURCE /* sched_getcpu and the like */

#include "processors.h"

#ifdef __linux__
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Have a thread (0 is the caller) go on on another processor than this one. Gives the caller's processor after that; -1
 * where the thread may use no other. */
int leave(int thread, int processor)
{
    int found = -1;
    cpu_set_t all, others;
    if (sched_getaffinity(thread, sizeof all, &all))
        return found;
    others = all;
    CPU_CLR(processor, &others);
    if (!sched_setaffinity(thread, sizeof others, &others)) /* which moves it at once */
        found = sched_getcpu();
    sched_setaffinity(thread, sizeof all, &all);
    return found;
}

static int has_room_for(int threads)
{
    cpu_set_t all;
    return !sched_getaffinity(0, sizeof all, &all) && CPU_COUNT(&all) >= threads;
}

void gather_team(struct team *team, int threads)
{
    team->processor = threads > 1 && threads <= MOST_THREADS && has_room_for(threads) ? sched_getcpu() : -1;
    team->threads = threads;
    for (int i = 1; i < threads && team->processor >= 0; i++)
        atomic_store_explicit(&team->members[i].is_placed, 0, memory_order_relaxed);
}

/* True for the one that is to see to a member's processor, itself or the first thread: were two to do so at once, one
 * would take the other's narrower choice for all that the thread may use, and leave it at that. */
static int may_place(struct team *team, int number)
{
    return !atomic_exchange_explicit(&team->members[number].is_placed, 1, memory_order_relaxed);
}

void join_team(struct team *team, int number)
{
    static _Thread_local int id;
    if (!number || team->processor < 0)
        return;
    if (!id)
        id = (int)syscall(SYS_gettid);
    atomic_store_explicit(&team->members[number].thread, id, memory_order_relaxed);
    if (may_place(team, number) && sched_getcpu() == team->processor)
        leave(0, team->processor);
}

void call_late_members(struct team *team)
{
    for (int i = 1; i < team->threads && team->processor >= 0; i++) {
        const int thread = atomic_load_explicit(&team->members[i].thread, memory_order_relaxed);
        if (thread && may_place(team, i))
            leave(thread, team->processor);
    }
}
#else
int leave(int thread, int processor)
{
    (void)thread, (void)processor;
    return -1;
}
void gather_team(struct team *team, int threads) { team->threads = threads; }
void join_team(struct team *team, int number) { (void)team, (void)number; }
void call_late_members(struct team *team) { (void)team; }
#endif
