// Copyright 2026 timebill_ros authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

// Asks the node from C++: sends one goal, prints the text as it comes, and how it ended.
//
//     ros2 run <your package> ask --ros-args -p budget_s:=2.0 -p server:=/timebill
//
// NOT TRIED: no rclcpp was at hand. It was checked against the generated messages and stand-ins for rclcpp. In
// CMakeLists.txt of your package, with these four in its package.xml too:
//
//     find_package(ament_cmake REQUIRED)
//     find_package(rclcpp REQUIRED)
//     find_package(rclcpp_action REQUIRED)
//     find_package(timebill_ros REQUIRED)
//     add_executable(ask ask.cpp)
//     target_link_libraries(ask rclcpp::rclcpp rclcpp_action::rclcpp_action ${timebill_ros_TARGETS})
//     install(TARGETS ask DESTINATION lib/${PROJECT_NAME})

#include <chrono>
#include <iostream>
#include <memory>
#include <string>

#include "rclcpp/rclcpp.hpp"
#include "rclcpp_action/rclcpp_action.hpp"
#include "timebill_ros/action/generate.hpp"
#include "timebill_ros/msg/chat_message.hpp"
#include "timebill_ros/msg/timing.hpp"

using namespace std::chrono_literals;
using Generate = timebill_ros::action::Generate;
using Timing = timebill_ros::msg::Timing;

namespace
{

constexpr auto ACCEPTANCE = 5s;  // a node accepts a goal within milliseconds
constexpr double PATIENCE_S = 5.0;  // after its budget, a goal has long had its result

int fail(const std::string & why)
{
  std::cerr << why << std::endl;
  return 1;
}

int ask(const rclcpp::Node::SharedPtr & node)
{
  const double budget_s = node->declare_parameter<double>("budget_s", 2.0);
  const std::string server = node->declare_parameter<std::string>("server", "/timebill");
  const std::string question = node->declare_parameter<std::string>(
    "question", "log : visit kitchen mug @shelf1 left kitchen task : bring mug");

  auto client = rclcpp_action::create_client<Generate>(node, server + "/generate");
  if (!client->wait_for_action_server(5s)) {
    return fail("no node " + server + " was found, or it is not configured");
  }

  Generate::Goal goal;
  timebill_ros::msg::ChatMessage message;
  message.role = "user";
  message.content = question;
  goal.messages.push_back(message);
  goal.time_budget = rclcpp::Duration::from_seconds(budget_s);
  goal.overrun_strategy = Generate::Goal::STRATEGY_TRUNCATE;  // at the deadline, the text so far

  std::string shown;
  rclcpp_action::Client<Generate>::SendGoalOptions options;
  options.feedback_callback =
    [&shown](rclcpp_action::ClientGoalHandle<Generate>::SharedPtr,
      const std::shared_ptr<const Generate::Feedback> feedback) {
      if (feedback->part != Generate::Feedback::PART_TEXT) {
        return;  // what a model thinks, and calls of tools, come here too
      }
      shown += feedback->text_delta;
      std::cout << feedback->text_delta << std::flush;
    };
  auto accepted = client->async_send_goal(goal, options);
  if (rclcpp::spin_until_future_complete(node, accepted, ACCEPTANCE) !=
    rclcpp::FutureReturnCode::SUCCESS)
  {
    return fail(server + " did not answer");
  }
  auto handle = accepted.get();
  if (!handle) {
    return fail("the goal was rejected: " + server + " is not active");
  }

  auto ended = client->async_get_result(handle);
  const auto longest = std::chrono::duration<double>(budget_s + PATIENCE_S);
  if (rclcpp::spin_until_future_complete(node, ended, longest) !=
    rclcpp::FutureReturnCode::SUCCESS)
  {
    client->async_cancel_goal(handle);
    return fail(server + " gave no result");
  }
  // What counts is the text of the result: feedback may be lost.
  const Generate::Result & result = *ended.get().result;
  const bool goes_on = result.text.compare(0, shown.size(), shown) == 0;
  std::cout << (goes_on ? result.text.substr(shown.size()) : "\n" + result.text) << std::endl;
  if (result.error_code != Generate::Result::NONE) {
    return fail("error " + std::to_string(result.error_code) + ": " + result.error_msg);
  }
  const bool promised = result.timing.verdict == Timing::VERDICT_FITS ||
    result.timing.verdict == Timing::VERDICT_FITS_WITH_EVICTION;
  std::cerr << result.timing.response_time_s << " s of " << budget_s << " s, " <<
    result.timing.generated_tokens << " tokens, " << (promised ? "promised" : "not promised") <<
    std::endl;
  return 0;
}

}  // namespace

int main(int argc, char ** argv)
{
  rclcpp::init(argc, argv);
  const int status = ask(std::make_shared<rclcpp::Node>("ask"));
  rclcpp::shutdown();
  return status;
}
