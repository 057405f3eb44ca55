"""The C++ LeNet-5 for `bitwright tune`: the network descriptor of Table 3 of the libnumber paper.

The commands run in the folder of this file, where lenet5_number, weights.bin and data.bin are (README.md).
"""

platform = "FPGA"
cmd_smallset = "./lenet5_number weights.bin data.bin 1000 {config}"
cmd_fullset = "./lenet5_number weights.bin data.bin 10000 {config}"
err_margin = 0.01
f_obj = "Default"
layer_name = ["conv1", "conv3", "conv5", "fc6", "fc7"]
layerwise_opt = "WEIGHT-ONLY"
wgt_size = [150, 2400, 48000, 10080, 840]
act_size = [784, 1176, 400, 120, 84]
wgt_max_abs = [0.7679879, 0.4089271, 0.1734724, 0.28390092, 0.90149254]
act_max_abs = [1.0, 4.8112082, 9.745188, 8.459558, 4.296127]  # on the training images
get_result_regex = r"Accuracy : (.*)\n"
