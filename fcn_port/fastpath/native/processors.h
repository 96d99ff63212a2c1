/* Threads of a team on processors of their own. */
#ifndef PROCESSORS_H
#define PROCESSORS_H

#include <stdatomic.h>

enum { MOST_THREADS = 64 };

/* What a thread that has others at work knows of them, from one time to the next. */
struct team {
    int threads, processor; /* of the first thread; -1 where nobody is moved */
    struct {
        _Atomic int thread, is_placed; /* the system's number, 0 before it is known; somebody sees to its processor */
    } members[MOST_THREADS];
};

/* Before so many threads begin; by the first of them, which has a processor now. */
void gather_team(struct team *team, int threads);

/* By each thread when it begins: it leaves the first one's processor. */
void join_team(struct team *team, int number);

/* By the first thread when others should have begun: those that have not may be waiting for its processor. */
void call_late_members(struct team *team);

#endif
