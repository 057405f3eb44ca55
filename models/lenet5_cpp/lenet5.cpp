// LeNet-5, ../lenet5.onnx, in plain C++: arrays, loops, float. lenet5_number.cpp is the same with number formats.
// README.md says how to build and run both.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>

// The input and the weights of every layer. A picture lies inside conv1's padding, two zeros on each side.
static float conv1_input[1][32][32], conv1_weight[6][1][5][5];
static float conv3_input[6][14][14], conv3_weight[16][6][5][5];
static float conv5_input[16][5][5], conv5_weight[120][16][5][5];
static float fc6_input[120][1][1], fc6_weight[84][120][1][1];
static float fc7_input[84][1][1], fc7_weight[10][84][1][1];

// Their biases and sums.
static float conv1_bias[6], conv1_output[6][28][28];
static float conv3_bias[16], conv3_output[16][10][10];
static float conv5_bias[120], conv5_output[120][1][1];
static float fc6_bias[84], fc6_output[84];
static float fc7_bias[10], fc7_output[10];

template <int in_c, int in_h, int in_w, int out_c, int size>
void convolution(const float (&input)[in_c][in_h][in_w], const float (&filter)[out_c][in_c][size][size],
                 const float (&bias)[out_c], float (&output)[out_c][in_h - size + 1][in_w - size + 1]) {
    for (int i = 0; i < out_c; ++i) {
        for (int y = 0; y < in_h - size + 1; ++y) {
            for (int x = 0; x < in_w - size + 1; ++x) {
                output[i][y][x] = bias[i];
                for (int j = 0; j < in_c; ++j) {
                    for (int k = 0; k < size; ++k) {
                        for (int l = 0; l < size; ++l) {
                            output[i][y][x] += filter[i][j][k][l] * input[j][y + k][x + l];
                        }
                    }
                }
            }
        }
    }
}

template <int in_c, int h, int w, int out_c>
void fully_connected(const float (&input)[in_c][h][w], const float (&filter)[out_c][in_c][h][w],
                     const float (&bias)[out_c], float (&output)[out_c]) {
    for (int i = 0; i < out_c; ++i) {
        output[i] = bias[i];
        for (int j = 0; j < in_c; ++j) {
            for (int k = 0; k < h; ++k) {
                for (int l = 0; l < w; ++l) {
                    output[i] += filter[i][j][k][l] * input[j][k][l];
                }
            }
        }
    }
}

template <int channels, int h, int w>
void relu_and_pool(const float (&from)[channels][h][w], float (&to)[channels][h / 2][w / 2]) {
    for (int i = 0; i < channels; ++i) {
        for (int y = 0; y < h / 2; ++y) {
            for (int x = 0; x < w / 2; ++x) {
                const float upper = std::max(from[i][2 * y][2 * x], from[i][2 * y][2 * x + 1]);
                const float lower = std::max(from[i][2 * y + 1][2 * x], from[i][2 * y + 1][2 * x + 1]);
                to[i][y][x] = std::max(0.0f, std::max(upper, lower));
            }
        }
    }
}

void relu(const float* from, int count, float* to) {
    for (int i = 0; i < count; ++i) to[i] = std::max(0.0f, from[i]);
}

// The digit in conv1_input.
int classify() {
    convolution(conv1_input, conv1_weight, conv1_bias, conv1_output);
    relu_and_pool(conv1_output, conv3_input);
    convolution(conv3_input, conv3_weight, conv3_bias, conv3_output);
    relu_and_pool(conv3_output, conv5_input);
    convolution(conv5_input, conv5_weight, conv5_bias, conv5_output);
    relu(&conv5_output[0][0][0], 120, &fc6_input[0][0][0]);
    fully_connected(fc6_input, fc6_weight, fc6_bias, fc6_output);
    relu(fc6_output, 84, &fc7_input[0][0][0]);
    fully_connected(fc7_input, fc7_weight, fc7_bias, fc7_output);
    return static_cast<int>(std::max_element(fc7_output, fc7_output + 10) - fc7_output);
}

std::ifstream open_file(const std::string& name) {
    std::ifstream file(name, std::ios::binary);
    if (!file) throw std::runtime_error(name + ": cannot be opened");
    return file;
}

template <class T>
void read_floats(std::istream& file, T* to, int count) {
    for (int i = 0; i < count; ++i) {
        float value = 0;
        if (!file.read(reinterpret_cast<char*>(&value), sizeof value)) throw std::runtime_error("the weights end early");
        to[i] = value;
    }
}

void read_weights(const std::string& name) {
    std::ifstream file = open_file(name);
    read_floats(file, &conv1_weight[0][0][0][0], 6 * 1 * 5 * 5);
    read_floats(file, conv1_bias, 6);
    read_floats(file, &conv3_weight[0][0][0][0], 16 * 6 * 5 * 5);
    read_floats(file, conv3_bias, 16);
    read_floats(file, &conv5_weight[0][0][0][0], 120 * 16 * 5 * 5);
    read_floats(file, conv5_bias, 120);
    read_floats(file, &fc6_weight[0][0][0][0], 84 * 120);
    read_floats(file, fc6_bias, 84);
    read_floats(file, &fc7_weight[0][0][0][0], 10 * 84);
    read_floats(file, fc7_bias, 10);
}

// Puts the next picture, 28 x 28 bytes, into conv1_input; returns its label, the byte before them.
int read_picture(std::istream& file) {
    const int label = file.get();
    for (int y = 0; y < 28; ++y) {
        for (int x = 0; x < 28; ++x) conv1_input[0][y + 2][x + 2] = static_cast<float>(file.get()) / 255.0f;
    }
    if (!file) throw std::runtime_error("the data end early");
    return label;
}

int main(int count, char** arguments) {
    try {
        if (count != 4) throw std::runtime_error("usage: lenet5 weights.bin data.bin PICTURES");
        const int pictures = std::atoi(arguments[3]);
        if (pictures < 1) throw std::runtime_error("PICTURES is a number from 1 on");
        read_weights(arguments[1]);
        std::ifstream data = open_file(arguments[2]);
        int correct = 0;
        for (int n = 0; n < pictures; ++n) {
            const int label = read_picture(data);
            correct += classify() == label;
        }
        std::printf("Accuracy : %.6f\n", static_cast<double>(correct) / pictures);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
