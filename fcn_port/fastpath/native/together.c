/* One function by several threads at once: OpenMP's where the compiler has it, which stay from one time to the next, else made
 * for each time, as Apple's compiler has none. */

#include "together.h"

#ifdef _OPENMP
#include <omp.h>

void together(int threads, share *of_one, void *all)
{
#pragma omp parallel num_threads(threads) if (threads > 1)
    for (int i = omp_get_thread_num(); i < threads; i += omp_get_num_threads())
        of_one(all, i);
}
#else
#include <pthread.h>

enum { AT_MOST = 256 };

struct errand {
    pthread_t thread;
    share *of_one;
    void *all;
    int number;
};

static void *run_errand(void *given)
{
    const struct errand *own = given;
    own->of_one(own->all, own->number);
    return 0;
}

void together(int threads, share *of_one, void *all)
{
    struct errand others[AT_MOST];
    int made = 1;
    for (; made < threads && made < AT_MOST; made++) {
        others[made] = (struct errand){.of_one = of_one, .all = all, .number = made};
        if (pthread_create(&others[made].thread, 0, run_errand, others + made))
            break;
    }
    of_one(all, 0);
    for (int i = made; i < threads; i++)
        of_one(all, i);
    for (int i = 1; i < made; i++)
        pthread_join(others[i].thread, 0);
}
#endif
