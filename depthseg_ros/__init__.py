"""Joint semantic segmentation and metric depth from one camera, for ROS 2."""
