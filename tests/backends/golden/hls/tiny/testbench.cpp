// bitwright test: runs tiny on golden vectors; 0 if every output is as it should be
#include "bitwright/testbench.hpp"

#include "tiny.hpp"

using namespace tiny_net;

int main(int count, char** arguments) {
    return testbench<X, Scores>(::tiny, count, arguments);
}
