// Known callers: calls through tables, templates of the library, exceptions, threads.
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <thread>
#include <vector>

#define FUNCTION extern "C" __attribute__((noinline, noclone))

volatile uint64_t sink;

FUNCTION uint64_t spin(uint64_t rounds) {
    uint64_t x = rounds;
    for (uint64_t i = 0; i < rounds; i++) x = x * 6364136223846793005ull + 1442695040888963407ull;
    sink = sink + x;
    return x;
}

struct Shape {
    virtual uint64_t area(int) = 0;
    virtual ~Shape() {}
};

FUNCTION uint64_t area_of_square(int side) { return spin(20000) + side + (sink = sink + 1); }

struct Square : Shape {
    __attribute__((noinline)) uint64_t area(int side) override { return area_of_square(side) + 1; }
};

FUNCTION void measure(Shape *shape, int rounds) {
    for (int i = 0; i < rounds; i++) sink = sink + shape->area(i);
}

FUNCTION bool less(const uint64_t &a, const uint64_t &b) {
    sink = sink + 1;
    return a < b;
}

FUNCTION void sort(std::vector<uint64_t> &numbers) {
    for (size_t i = 0; i < numbers.size(); i++) numbers[i] = spin(3) * (i + 1);
    std::sort(numbers.begin(), numbers.end(), less);
}

FUNCTION void throws(int depth) {
    if (depth > 0) {
        throws(depth - 1);
        sink = sink + 1;
        return;
    }
    throw std::runtime_error("thrown");
}

FUNCTION void catches(int rounds) {
    for (int i = 0; i < rounds; i++) {
        try {
            throws(20);
        } catch (const std::exception &error) {
            sink = sink + error.what()[0];
        }
    }
}

FUNCTION void in_thread(int rounds) {
    for (int i = 0; i < rounds; i++) sink = sink + spin(20000);
}

int main() {
    std::vector<uint64_t> numbers(4096);
    Square square;
    std::thread thread(in_thread, 6000);
    for (int i = 0; i < 120; i++) {
        sort(numbers);
        measure(&square, 60);
        catches(60);
    }
    thread.join();
    return sink == 42;
}
