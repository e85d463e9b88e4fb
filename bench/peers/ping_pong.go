// SPDX-License-Identifier: BSL-1.0

// The ping-pong benches of bench/driver/suite.hpp for goroutines: a pair that
// exchanges a token through a mutex and a condition variable while others
// compute for 50 us and block in the kernel for 2 ms.
//
//	go build -o OUT bench/peers/ping_pong.go
//	OUT pingpong|pingpong-paced WORKERS sleep TASKS ROUNDS
package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

var sink uint64

func spin(steps uint64) uint64 {
	x := uint64(88172645463325252)
	for i := uint64(0); i < steps; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

func threadCPU() float64 {
	var t syscall.Timespec
	const clockThreadCPU = 3
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockThreadCPU,
		uintptr(unsafe.Pointer(&t)), 0)
	return float64(t.Sec) + 1e-9*float64(t.Nsec)
}

func stepsPerUs() float64 {
	if v, err := strconv.ParseFloat(
		os.Getenv("BENCH_STEPS_PER_US"), 64); err == nil {
		return v
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	best := 1e9
	for i := 0; i < 25; i++ {
		start := threadCPU()
		sink += spin(200000)
		if d := threadCPU() - start; d < best {
			best = d
		}
	}
	return 200000 / (best * 1e6)
}

type token struct {
	m       sync.Mutex
	changed *sync.Cond
	turn    int
	ended   bool
}

func (t *token) pass(me int) bool {
	t.m.Lock()
	defer t.m.Unlock()
	for t.turn != me && !t.ended {
		t.changed.Wait()
	}
	if t.ended {
		return false
	}
	t.turn = 1 - me
	t.changed.Signal()
	return true
}

func (t *token) waitForTurn(me int) {
	t.m.Lock()
	for t.turn != me {
		t.changed.Wait()
	}
	t.m.Unlock()
}

func (t *token) end() {
	t.m.Lock()
	t.ended = true
	t.changed.Broadcast()
	t.m.Unlock()
}

func main() {
	if len(os.Args) < 6 || os.Args[3] != "sleep" ||
		(os.Args[1] != "pingpong" && os.Args[1] != "pingpong-paced") {
		os.Exit(2)
	}
	paced := os.Args[1] == "pingpong-paced"
	workers, _ := strconv.Atoi(os.Args[2])
	tasks, _ := strconv.Atoi(os.Args[4])
	rounds, _ := strconv.Atoi(os.Args[5])
	runtime.GOMAXPROCS(workers)
	steps := uint64(50 * stepsPerUs())

	var tok token
	tok.changed = sync.NewCond(&tok.m)
	var over int32
	var times []float64
	var pair, blockers sync.WaitGroup
	pair.Add(2)
	go func() {
		for tok.pass(1) {
		}
		pair.Done()
	}()
	go func() {
		for atomic.LoadInt32(&over) == 0 {
			if paced {
				time.Sleep(time.Millisecond)
			}
			start := time.Now()
			tok.pass(0)
			tok.waitForTurn(0)
			times = append(times, 1e6*time.Since(start).Seconds())
		}
		tok.end()
		pair.Done()
	}()
	start := time.Now()
	for i := 0; i < tasks; i++ {
		blockers.Add(1)
		go func() {
			for r := 0; r < rounds; r++ {
				atomic.AddUint64(&sink, spin(steps))
				left := syscall.Timespec{Nsec: 2000000}
				for syscall.Nanosleep(&left, &left) == syscall.EINTR {
				}
			}
			blockers.Done()
		}()
	}
	blockers.Wait()
	duration := time.Since(start).Seconds()
	atomic.StoreInt32(&over, 1)
	pair.Wait()
	sort.Float64s(times)
	q := func(p float64) float64 {
		return times[int(p*float64(len(times)-1))]
	}
	fmt.Printf("{\"peer\":\"go\",\"bench\":\"%s-sleep\",\"tasks\":%d,"+
		"\"rounds\":%d,\"value\":%.2f,\"unit\":\"us p99\",\"p50_us\":%.2f,"+
		"\"p99_us\":%.2f,\"p999_us\":%.2f,\"max_us\":%.1f,"+
		"\"exchanges\":%d,\"rounds_per_s\":%.0f}\n",
		os.Args[1], tasks, rounds, q(.99), q(.5), q(.99), q(.999), q(1),
		len(times), float64(tasks*rounds)/duration)
}
