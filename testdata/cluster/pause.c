/* The process that holds a pod's namespaces: it waits for the end and takes in orphans. */
#include <signal.h>

int main(void) {
    sigset_t ends;
    int got;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, 0); /* blocked signals reach process 1 as well, and stay until waited for */
    signal(SIGCHLD, SIG_IGN);         /* nobody asks how an orphan ended */
    return sigwait(&ends, &got);
}
